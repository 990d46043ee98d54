//! Native gRPC on the public port: unary, streaming, and errors as gRPC statuses.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use blackbox::{Sut, grpc::bearer, runner::Group};
use serde_json::{Value, json};
use tonic::{Code, Status, metadata::MetadataMap};

pub(crate) fn add(group: Group) -> Group {
    group
        .test("native gRPC embeds", unary)
        .test("native gRPC streams an answer with citations", streams)
        .test("native gRPC errors are statuses", errors)
        .test("native gRPC does not reach internal methods", internal)
}

async fn unary(sut: Arc<Sut>) -> Result<()> {
    let grpc = sut.grpc("public").await?;
    let request = json!({"texts": ["hello"]});
    let response = match grpc.unary("TextService/Embed", request, bearer(&sut.token("alice")?)?).await? {
        Ok(response) => response,
        Err(status) => bail!("{status:?}"),
    };
    let values = response["embeddings"][0]["values"].as_array().map_or(0, Vec::len);
    ensure!(values == 384, "{values} values");
    Ok(())
}

async fn streams(sut: Arc<Sut>) -> Result<()> {
    let grpc = sut.grpc("public").await?;
    let question = json!({"question": "What does the gateway do?"});
    let (messages, status) = grpc.stream("AssistantService/Answer", question, MetadataMap::new()).await?;
    ensure!(status.is_none(), "{status:?}");
    let has = |event: &str| messages.iter().any(|message| message.get(event).is_some());
    ensure!(has("citation") && has("delta") && has("completed"), "{messages:?}");
    ensure!(
        messages.last().is_some_and(|m| m.get("completed").is_some()),
        "completed is not last: {messages:?}"
    );
    Ok(())
}

fn refused(result: Result<Value, Status>, codes: &[Code]) -> Result<()> {
    match result {
        Err(status) if codes.contains(&status.code()) => Ok(()),
        other => bail!("not one of {codes:?}: {other:?}"),
    }
}

async fn errors(sut: Arc<Sut>) -> Result<()> {
    let grpc = sut.grpc("public").await?;
    let embed = |texts: Value, metadata| grpc.unary("TextService/Embed", json!({"texts": texts}), metadata);
    let token = || bearer(&sut.token("alice")?);
    refused(embed(json!(["a"]), MetadataMap::new()).await?, &[Code::Unauthenticated])?;
    refused(embed(json!(["a"]), bearer("nonsense")?).await?, &[Code::Unauthenticated])?;
    refused(embed(json!([]), token()?).await?, &[Code::InvalidArgument])?;
    Ok(())
}

async fn internal(sut: Arc<Sut>) -> Result<()> {
    let grpc = sut.grpc("public").await?;
    let document =
        json!({"document": {"id": "notes/x", "revision": "1", "text": "planted", "readers": ["*"]}});
    let result = grpc.unary("SearchService/Index", document, bearer(&sut.token("alice")?)?).await?;
    refused(result, &[Code::PermissionDenied, Code::Unimplemented, Code::NotFound])
}
