//! A gRPC upstream for `zoo.v1`, the contract with every kind of field: it answers with what it was asked, so that what
//! the gateway reads from JSON comes back as JSON.

use super::{
    lab::{frame, streams::Blob},
    support::{self, AI_SECRET, SECRET, Upstream},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::{convert::Infallible, net::SocketAddr};

/// Any message whose first field is a name: `GetRequest` as well as `Animal`.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

pub(crate) async fn upstream() -> Upstream {
    support::raw(|stream| async move {
        let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    })
    .await
}

async fn answer(request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let message = body.get(5..).unwrap_or_default();
    let named = || Named::decode(message).unwrap().encode_to_vec();
    let (messages, status) = match head.uri.path().trim_start_matches("/zoo.v1.ZooService/") {
        "Get" => (vec![named()], "0"),
        "Watch" => (vec![named(); 3], "0"),
        // An UpdateResponse has the field of the request that it answers with.
        "Echo" | "Update" => (vec![message.to_vec()], "0"),
        "Picture" => (vec![Blob::decode(message).unwrap().content.unwrap_or_default().encode_to_vec()], "0"),
        "Release" | "Import" | "Purge" => (vec![vec![]], "0"),
        _ => (vec![], "12"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let frames = messages.into_iter().map(|message| Frame::data(frame(&message)));
    let frames: Vec<_> = frames.chain([Frame::trailers(trailers)]).map(Ok).collect();
    let body = BodyExt::boxed(StreamBody::new(stream::iter(frames)));
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// A gateway's configuration in front of it.
pub(crate) fn config(upstream: SocketAddr) -> String {
    let contract = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/zoo");
    format!(
        "[listen]\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [log]\naccess = false\n\
         [identity]\nhs256_secret = \"{SECRET}\"\n\
         [upstreams.ai]\nprotocol = \"grpc\"\naddress = \"{upstream}\"\nsecret = \"{AI_SECRET}\"\nhealth_interval = \"1h\"\n\
         [contracts]\npaths = [\"{contract}\"]\npackages = {{ \"zoo.v1\" = \"ai\" }}\n"
    )
}
