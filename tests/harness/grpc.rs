//! A native gRPC client without generated code: messages are JSON here and protobuf on the wire,
//! by the descriptors of `proto/`.

use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::Value;
use tonic::{Status, metadata::MetadataMap, transport::Channel};

/// The contracts.
#[derive(Debug, Clone)]
pub struct Contracts(DescriptorPool);

/// A connection to a gRPC server.
#[derive(Debug, Clone)]
pub struct Grpc {
    channel: Channel,
    contracts: Contracts,
}

impl Contracts {
    /// Compiles `proto/hybrid/ai/v1` under `root`.
    pub fn load(root: &Path) -> Result<Self> {
        let proto = root.join("proto");
        let files = ["text_service", "search_service", "assistant_service"];
        let files = files.map(|name| format!("hybrid/ai/v1/{name}.proto"));
        let set = protox::compile(files, [proto]).context("compile the contracts")?;
        Ok(Self(DescriptorPool::from_file_descriptor_set(set)?))
    }

    /// `Service/Method` of package `hybrid.ai.v1`.
    fn method(&self, path: &str) -> Result<MethodDescriptor> {
        let (service, method) = path.split_once('/').context("Service/Method")?;
        let service =
            self.0.get_service_by_name(&format!("hybrid.ai.v1.{service}")).context("no such service")?;
        service.methods().find(|m| m.name() == method).with_context(|| format!("no method {path}"))
    }
}

impl Grpc {
    /// Connects to `address`.
    pub async fn connect(address: &str, contracts: Contracts) -> Result<Self> {
        Ok(Self { channel: xtask::grpc::connect(address).await?, contracts })
    }

    /// Calls a unary method; the outer error is the test's own, the inner one the server's status.
    pub async fn unary(
        &self,
        path: &str,
        message: Value,
        metadata: MetadataMap,
    ) -> Result<Result<Value, Status>> {
        let method = self.contracts.method(path)?;
        let request = request(&method, message, metadata)?;
        match xtask::grpc::unary(self.channel.clone(), &full_path(&method), request).await {
            Ok(response) => Ok(Ok(decode(&method, response.into_inner())?)),
            Err(status) => Ok(Err(status)),
        }
    }

    /// Calls a server-streaming method; all messages, and the status if it is an error.
    pub async fn stream(
        &self,
        path: &str,
        message: Value,
        metadata: MetadataMap,
    ) -> Result<(Vec<Value>, Option<Status>)> {
        let method = self.contracts.method(path)?;
        let request = request(&method, message, metadata)?;
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await?;
        let path = full_path(&method).parse()?;
        let mut stream = match client.server_streaming(request, path, xtask::grpc::BytesCodec).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok((Vec::new(), Some(status))),
        };
        let mut messages = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(bytes)) => messages.push(decode(&method, bytes)?),
                Ok(None) => return Ok((messages, None)),
                Err(status) => return Ok((messages, Some(status))),
            }
        }
    }
}

/// `authorization` metadata for a token.
pub fn bearer(token: &str) -> Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {token}").parse()?);
    Ok(metadata)
}

fn full_path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

fn request(
    method: &MethodDescriptor,
    message: Value,
    metadata: MetadataMap,
) -> Result<tonic::Request<Bytes>> {
    let message = DynamicMessage::deserialize(method.input(), message).context("the request's JSON")?;
    let mut request = tonic::Request::new(Bytes::from(message.encode_to_vec()));
    *request.metadata_mut() = metadata;
    Ok(request)
}

fn decode(method: &MethodDescriptor, bytes: Bytes) -> Result<Value> {
    Ok(serde_json::to_value(DynamicMessage::decode(method.output(), bytes)?)?)
}
