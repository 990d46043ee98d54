//! What an idle WebSocket costs the gateway's process. A smoke test with few sockets and a build that is not optimised;
//! the benchmarks measure ten thousand.
#![cfg(target_os = "linux")]

use crate::{
    app::{self, App},
    client::Client,
    support::{parse, within},
};
use std::{path::PathBuf, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

const WARM_UP: usize = 50;
const SOCKETS: usize = 300;
/// The bar is 12 KiB; a page or two of the allocator's own weigh more among so few.
const KIBIBYTES: u64 = 16;

/// A gateway's process, with its addresses.
struct Process {
    child: Child,
    at: gateway::Addresses,
    folder: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Process {
    async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("gateway-idle-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, text) = (folder.join("gateway.toml"), app::config(""));
        parse(&text);
        let text = text.replace("[log]\n", "[log]\nformat = \"json\"\n");
        std::fs::write(&file, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["run", "--config"])
            .arg(&file)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let at = loop {
            let line = within(lines.next_line()).await.unwrap().expect("the gateway has ended");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "listening" {
                let address = |name: &str| line[name].as_str().unwrap().parse().unwrap();
                break gateway::Addresses {
                    public: address("public"),
                    internal: address("internal"),
                    admin: address("admin"),
                };
            }
        };
        // What it says later must go somewhere.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, at, folder }
    }

    /// Resident memory in KiB.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

async fn open(process: &Process, count: usize) -> Vec<Client> {
    let mut clients = vec![];
    for _ in 0..count {
        let mut client = Client::new(process.at.public).await;
        client.subscribe("open:a").await;
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn an_idle_socket_costs_little() {
    let process = Process::start().await;
    let _app = App::attach_at(process.at.internal).await;
    let _warm = open(&process, WARM_UP).await;
    let before = process.resident();
    let clients = open(&process, SOCKETS).await;
    let after = process.resident();
    let each = after.saturating_sub(before) as f64 / SOCKETS as f64;
    println!("{each:.1} KiB for each of {SOCKETS} idle sockets");
    assert!(each <= KIBIBYTES as f64, "{each:.1} KiB for each socket");
    drop(clients);
}
