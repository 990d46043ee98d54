//! Contracts are swapped whole: a new set serves at once, a bad one leaves the old one serving.

use crate::lab;
use crate::support;
use crate::support::{Edge, get};
use gateway::Options;
use http::StatusCode;
use std::path::PathBuf;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("contracts")).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_changed_contract_serves_after_a_reload_and_a_bad_one_changes_nothing() {
    let (upstream, _seen) = lab::upstream().await;
    let folder = Folder::new("reload");
    let contract = std::fs::read_to_string(format!("{}/lab.proto", lab::contracts())).unwrap();
    folder.write("contracts/lab.proto", &contract);
    let contracts = folder.0.join("contracts").display().to_string();
    let text = lab::config_of(&contracts, upstream.at, "");
    folder.write("gateway.toml", &text);
    let options = Options { source: Some(folder.0.join("gateway.toml")), ..Options::default() };
    let edge = Edge::with(&text, options).await;
    assert_eq!(get(edge.at.public, "/v1/lab/x").await.status, StatusCode::OK);

    folder.write("contracts/lab.proto", &contract.replace("/v1/lab/{text}", "/v2/lab/{text}"));
    edge.gateway.reload().await.unwrap();
    assert_eq!(get(edge.at.public, "/v2/lab/x").await.status, StatusCode::OK);
    assert_eq!(get(edge.at.public, "/v1/lab/x").await.status, StatusCode::NOT_FOUND);

    folder.write("contracts/lab.proto", &contract.replace("/v1/lab/{text}", "/v3/lab/{nope}"));
    let refused = edge.gateway.reload().await.unwrap_err();
    assert!(refused.contains("lab.v1.LabService.Get") && refused.contains("has no field nope"), "{refused}");
    assert_eq!(get(edge.at.public, "/v2/lab/x").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_edited_contract_serves_without_a_word_to_the_gateway() {
    let (upstream, _seen) = lab::upstream().await;
    let (folder, contract) = (Folder::new("watch"), lab_contract());
    let edge = watching(&folder, &contract, upstream.at).await;
    let serves = async |path| serves(&edge, path).await;
    serves("/v1/lab/x").await;
    folder.write("contracts/lab.proto", &contract.replace("/v1/lab/{text}", "/v2/lab/{text}"));
    serves("/v2/lab/x").await;
    // A bad one changes nothing, and the next good one counts again.
    folder.write("contracts/lab.proto", "this is no contract");
    folder.write("contracts/more.proto", "syntax = \"proto3\"; package more;");
    serves("/v2/lab/x").await;
    folder.write("contracts/lab.proto", &contract.replace("/v1/lab/{text}", "/v3/lab/{text}"));
    serves("/v3/lab/x").await;
    assert_eq!(get(edge.at.public, "/v2/lab/x").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_contract_that_is_edited_during_the_start_serves() {
    let (upstream, _seen) = lab::upstream().await;
    let (folder, contract) = (Folder::new("start"), lab_contract());
    let edge = watching(&folder, &contract, upstream.at).await;
    // Nothing has run since the start: the old contract was read, and nobody has looked at the files again.
    folder.write("contracts/lab.proto", &contract.replace("/v1/lab/{text}", "/v2/lab/{text}"));
    serves(&edge, "/v2/lab/x").await;
}

fn lab_contract() -> String {
    std::fs::read_to_string(format!("{}/lab.proto", lab::contracts())).unwrap()
}

/// A gateway with this contract in a folder of its own.
async fn watching(folder: &Folder, contract: &str, upstream: std::net::SocketAddr) -> Edge {
    folder.write("contracts/lab.proto", contract);
    let contracts = folder.0.join("contracts").display().to_string();
    let text = lab::config_of(&contracts, upstream, "");
    folder.write("gateway.toml", &text);
    let options = Options { source: Some(folder.0.join("gateway.toml")), ..Options::default() };
    Edge::with(&text, options).await
}

async fn serves(edge: &Edge, path: &str) {
    support::within(async {
        while get(edge.at.public, path).await.status != StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}
