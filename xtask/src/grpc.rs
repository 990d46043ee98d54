//! A gRPC client that needs no generated code: messages are bytes, encoded by whoever knows their type.

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::KeyAndValueRef;
use tonic::transport::{Channel, Endpoint};

/// A codec whose messages are already encoded.
#[derive(Debug, Clone, Copy, Default)]
pub struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Connects to `address` (`host:port` or a URL) over HTTP/2 without TLS.
pub async fn connect(address: &str) -> Result<Channel> {
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(url).with_context(|| format!("{address:?} is not an address"))?;
    endpoint.connect().await.with_context(|| format!("cannot connect to {address}"))
}

/// Calls a unary method, given as `/package.Service/Method`. The response's metadata are those of its head, then those
/// of its end, which tonic's own unary call would put in the place of the former.
pub async fn unary(
    channel: Channel,
    method: &str,
    request: tonic::Request<Bytes>,
) -> Result<tonic::Response<Bytes>, Status> {
    let path = method.parse().map_err(|_| Status::internal(format!("{method:?} is not a method's path")))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let (mut metadata, mut answer, extensions) =
        client.server_streaming(request, path, BytesCodec).await?.into_parts();
    let message = answer.message().await?.ok_or_else(|| Status::internal("the answer has no message"))?;
    for entry in answer.trailers().await?.unwrap_or_default().iter() {
        if let KeyAndValueRef::Ascii(key, value) = entry {
            metadata.append(key, value.clone());
        }
    }
    Ok(tonic::Response::from_parts(metadata, message, extensions))
}

/// Asks `grpc.health.v1.Health` for the overall state; an error says what the state is.
pub async fn check_health(address: &str) -> Result<()> {
    let channel = connect(address).await?;
    // An empty HealthCheckRequest asks for the server as a whole; field 1 of the response is the status.
    let response = unary(channel, "/grpc.health.v1.Health/Check", tonic::Request::new(Bytes::new())).await?;
    anyhow::ensure!(response.get_ref().as_ref() == [0x08, 0x01], "the health service does not say SERVING");
    Ok(())
}
