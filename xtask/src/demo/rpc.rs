//! Native gRPC through the gateway's public port, as any gRPC client would call it. The messages' types come
//! from the contracts at run time, so a new RPC needs no change here either.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::{Value, json};

use super::report::Printer;
use super::{Target, json_path, timing};
use crate::grpc;

/// A call and what its answer must have.
struct Call {
    title: &'static str,
    method: &'static str,
    request: Value,
    /// Paths whose values must exist.
    expected: &'static [&'static str],
}

pub(super) async fn run(target: &Target, proto: &Path, printer: &mut Printer) {
    printer.group("gRPC");
    let calls = [
        Call {
            title: "gRPC: Search on the same port",
            method: "hybrid.ai.v1.SearchService.Search",
            request: json!({ "query": "How does the gateway know a user?", "limit": 2 }),
            expected: &["$.results[0].passage", "$.results[0].score"],
        },
        Call {
            title: "gRPC: Embed with Alice's token",
            method: "hybrid.ai.v1.TextService.Embed",
            request: json!({ "texts": ["one sentence", "and another"] }),
            expected: &["$.model", "$.embeddings[1].values[383]"],
        },
    ];
    let pool = load(proto);
    for call in calls {
        printer.step(call.title);
        let began = Instant::now();
        let result = match &pool {
            Ok(pool) => perform(target, pool, &call, printer).await,
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        match result {
            Ok(hops) => {
                let held: Vec<_> = call.expected.iter().map(|path| format!("body.{path}")).collect();
                printer.end(call.title, "OK", began.elapsed(), hops, &held, vec![]);
            }
            Err(error) => {
                printer.end(call.title, "failed", began.elapsed(), vec![], &[], vec![format!("{error:#}")]);
            }
        }
    }
}

fn load(proto: &Path) -> Result<DescriptorPool> {
    let dir = proto.join("hybrid/ai/v1");
    let mut files = Vec::new();
    for entry in
        std::fs::read_dir(&dir).with_context(|| format!("cannot read the contracts in {}", dir.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    let set = protox::compile(files, [proto]).context("the contracts cannot be compiled")?;
    Ok(DescriptorPool::from_file_descriptor_set(set)?)
}

fn method(pool: &DescriptorPool, name: &str) -> Result<MethodDescriptor> {
    let (service, method) = name.rsplit_once('.').context("a method's name has a service")?;
    let service = pool.get_service_by_name(service).with_context(|| format!("no contract has {service}"))?;
    service.methods().find(|m| m.name() == method).with_context(|| format!("no contract has {name}"))
}

async fn perform(
    target: &Target,
    pool: &DescriptorPool,
    call: &Call,
    printer: &Printer,
) -> Result<Vec<timing::Hop>> {
    let method = method(pool, call.method)?;
    let message = DynamicMessage::deserialize(method.input(), &call.request)?;
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    printer.sent(&format!("{path} (HTTP/2, protobuf)"));
    printer.detail(&call.request.to_string());
    let mut request = tonic::Request::new(Bytes::from(message.encode_to_vec()));
    let token = format!("Bearer {}", target.tokens.alice).parse().context("the token is not valid")?;
    request.metadata_mut().insert("authorization", token);
    let channel = grpc::connect(&target.base).await?;
    let response = grpc::unary(channel, &path, request)
        .await
        .map_err(|status| anyhow::anyhow!("gRPC status {:?}: {}", status.code(), status.message()))?;
    // The gateway's in the head, the service's at the end.
    let values = response.metadata().get_all("server-timing").iter().filter_map(|value| value.to_str().ok());
    let hops = values.flat_map(timing::parse).collect();
    let answer = serde_json::to_value(DynamicMessage::decode(method.output(), response.into_inner())?)?;
    printer.received("OK");
    printer.body(&answer.to_string());
    for path in call.expected {
        ensure!(json_path::get(&answer, path).is_some(), "the answer has no {path}");
    }
    Ok(hops)
}
