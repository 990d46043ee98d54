//! The contestants of the channels' benchmarks, each on core 0 with its application: our gateway with an application on
//! its link, and the peers that are installed. What is not there is left out, and a line says why.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    backend::Ports,
    session::{Dialect, Door},
    wire::Encoding,
};
use crate::bench::{
    contestants::{Folder, free_ports, program, root},
    go_peers::go,
    helper::Spec,
    process::{self, PROXY_CORE, Pinned},
};

const SECRET: &str = "a-secret-for-benchmarks-only-0123456789";

/// A server that runs, with its application.
pub(super) struct Contestant {
    /// With its version, for people and machines.
    pub(super) name: &'static str,
    /// Where clients go; one for each encoding.
    pub(super) doors: Vec<(Encoding, Door)>,
    /// The application's control.
    pub(super) control: u16,
    /// Whether clients come back to where they were.
    pub(super) recovers: bool,
    /// The server first, then its application, where that is another process.
    processes: Vec<Pinned>,
}

/// Which of them a benchmark wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Gateway,
    SocketIo,
    /// Over WebSockets.
    Pushpin,
    /// Over streaming HTTP responses, which it is best at.
    PushpinStream,
    Centrifugo,
    /// Centrifugo's library told to collect a client's messages for 2 ms, as our gateway does.
    CentrifugoDelayed,
}

impl Who {
    /// All of them, ours first.
    pub(super) const ALL: [Self; 6] = [
        Self::Gateway,
        Self::SocketIo,
        Self::Pushpin,
        Self::PushpinStream,
        Self::Centrifugo,
        Self::CentrifugoDelayed,
    ];

    /// Starts it with files in `folder`.
    pub(super) fn start(self, folder: &Path) -> Result<Contestant> {
        match self {
            Self::Gateway => gateway(folder),
            Self::SocketIo => socket_io(folder),
            Self::Pushpin => pushpin(&subfolder(folder, "pushpin")?, Dialect::Grip),
            Self::PushpinStream => pushpin(&subfolder(folder, "pushpin-stream")?, Dialect::GripStream),
            Self::Centrifugo => centrifugo(folder, None),
            Self::CentrifugoDelayed => centrifugo(folder, Some("2ms")),
        }
    }
}

/// Contestants that run, ours first; dropped, they end.
pub(super) struct Field {
    pub(super) contestants: Vec<Contestant>,
    _folder: Folder,
}

impl Field {
    /// Starts ours and those peers of `who` that can be.
    pub(super) fn start(bench: &str, who: &[Who]) -> Result<Self> {
        let folder = Folder::new()?;
        let mut contestants = Vec::new();
        for who in who {
            match who.start(&folder.0) {
                Ok(contestant) => contestants.push(contestant),
                Err(why) if *who != Who::Gateway => println!("{who:?} is left out of `{bench}`: {why:#}."),
                Err(why) => return Err(why.context("the gateway")),
            }
        }
        Ok(Self { contestants, _folder: folder })
    }
}

impl Contestant {
    /// The clients' door for an encoding, where it has one.
    pub(super) fn door(&self, encoding: Encoding) -> Option<Door> {
        self.doors.iter().find(|(known, _)| *known == encoding).map(|(_, door)| door.clone())
    }

    /// The processes that serve: each with its descendants.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Pinned::pid).collect()
    }

    /// The server's own process, without its application's.
    pub(super) fn server(&self) -> u32 {
        self.processes[0].pid()
    }

    /// Waits until it does next to nothing: what an earlier load left behind is dealt with.
    pub(super) fn settle(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        let used = || self.pids().into_iter().map(process::cpu_us).sum::<Result<f64>>();
        loop {
            let before = used()?;
            thread::sleep(Duration::from_millis(500));
            if used()? - before < 50_000.0 {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{} does not come to rest", self.name);
        }
    }

    /// What the server's processes hold in memory, in bytes, once it has not changed for half a second.
    pub(super) fn settled_rss(&self) -> Result<f64> {
        let until = Instant::now() + Duration::from_secs(10);
        let (mut last, mut since) = (process::rss(self.server())?, Instant::now());
        while since.elapsed() < Duration::from_millis(500) && Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
            let now = process::rss(self.server())?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }
}

fn subfolder(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// A name with a version: it is known only now, and is printed until the program ends.
fn named(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

/// Waits for the line of JSON that a process says when it listens.
fn says<T: DeserializeOwned>(process: &mut Pinned, log: &Path) -> Result<T> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let said = fs::read_to_string(log)?;
        if let Some(ready) = said.lines().find_map(|line| serde_json::from_str(line).ok()) {
            return Ok(ready);
        }
        process.check(log)?;
        ensure!(Instant::now() < until, "it does not say its ports: {said}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn helper(name: &str, spec: &Spec, log: &Path) -> Result<(Pinned, Ports)> {
    let spec = serde_json::to_string(spec)?;
    let command = [&*program("xtask").to_string_lossy(), "bench", "--helper", &spec].map(String::from);
    let mut process = Pinned::start(name, PROXY_CORE, &command, log)?;
    let ports = says(&mut process, log)?;
    Ok((process, ports))
}

fn wait_listening(process: &mut Pinned, port: u16, log: &Path) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        process.check(log)?;
        ensure!(Instant::now() < until, "it does not listen on port {port}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The gateway with channels and nothing else, and an application that attaches to it.
fn gateway(folder: &Path) -> Result<Contestant> {
    let [public, internal, admin, nowhere] = free_ports()?;
    let (secret, config, log) =
        (folder.join("channels-secret"), folder.join("channels.toml"), folder.join("channels-gateway.log"));
    fs::write(&secret, SECRET)?;
    let text = format!(
        "[listen]
public = \"127.0.0.1:{public}\"
internal = \"127.0.0.1:{internal}\"
admin = \"127.0.0.1:{admin}\"
[limits]
connections = 19000
[identity]
hs256_secret_file = {secret:?}
[log]
access = false
level = \"off\"
[channels]
services = [\"app\"]
[upstreams.app]
protocol = \"http\"
address = \"127.0.0.1:{nowhere}\"
secret_file = {secret:?}
"
    );
    fs::write(&config, text)?;
    let command = [program("gateway"), "run".into(), "--config".into(), config];
    let command = command.map(|part| part.display().to_string());
    let mut process = Pinned::start("gateway", PROXY_CORE, &command, &log)?;
    wait_listening(&mut process, internal, &log)?;
    let spec = Spec::ChannelsApp { internal: format!("127.0.0.1:{internal}"), secret: SECRET.into() };
    let (application, ports) = helper("application", &spec, &folder.join("channels-app.log"))?;
    let door = |encoding| {
        let dialect = Dialect::Channels(encoding);
        let door =
            Door { address: format!("127.0.0.1:{public}"), path: "/channels/v1/websocket".into(), dialect };
        (encoding, door)
    };
    Ok(Contestant {
        name: "gateway",
        doors: vec![door(Encoding::Json), door(Encoding::Protobuf)],
        control: ports.control,
        recovers: true,
        processes: vec![process, application],
    })
}

/// What a peer with its application inside says when it listens.
#[derive(Deserialize)]
struct Peer {
    port: u16,
    control: u16,
    version: String,
}

/// Where the Node.js peers are; their packages are installed by `--setup`.
pub(in crate::bench) fn node_peers() -> PathBuf {
    root().join("xtask/peers/node")
}

fn socket_io(folder: &Path) -> Result<Contestant> {
    let (node, peers) = (root().join("services-node/node_modules/.bin/node"), node_peers());
    ensure!(node.is_file(), "the pinned Node.js is not installed (`cargo xtask up` installs it)");
    ensure!(
        peers.join("node_modules/socket.io").is_dir(),
        "socket.io is not installed (`cargo xtask bench --setup` installs it)"
    );
    let log = folder.join("socketio.log");
    let command = [node.display().to_string(), peers.join("socketio.mjs").display().to_string()];
    let env = [("NODE_ENV".to_owned(), "production".to_owned())];
    let mut process = Pinned::start_with("socket.io", PROXY_CORE, &command, &env, &log)?;
    let peer: Peer = says(&mut process, &log)?;
    let door = Door {
        address: format!("127.0.0.1:{}", peer.port),
        path: "/socket.io/?EIO=4&transport=websocket".into(),
        dialect: Dialect::SocketIo,
    };
    Ok(Contestant {
        name: named(format!("socket.io {}", short(&peer.version))),
        doors: vec![(Encoding::Json, door)],
        control: peer.control,
        recovers: true,
        processes: vec![process],
    })
}

fn centrifugo(folder: &Path, delay: Option<&str>) -> Result<Contestant> {
    let program = folder.join("centrifugepeer");
    if !program.is_file() {
        go(
            &root().join("xtask/peers/centrifuge"),
            &["build", "-buildvcs=false", "-o", &program.to_string_lossy(), "."],
        )?;
    }
    let log = folder.join(format!("centrifuge{}.log", delay.unwrap_or_default()));
    let mut command = vec![program.display().to_string()];
    command.extend(delay.map(str::to_owned));
    let mut process = Pinned::start("centrifuge", PROXY_CORE, &command, &log)?;
    let peer: Peer = says(&mut process, &log)?;
    let door = |encoding| {
        let dialect = Dialect::Centrifuge(encoding);
        (encoding, Door { address: format!("127.0.0.1:{}", peer.port), path: "/".into(), dialect })
    };
    let settings = delay.map(|delay| format!(", {delay}")).unwrap_or_default();
    Ok(Contestant {
        name: named(format!("centrifuge {}{settings}", short(&peer.version))),
        doors: vec![door(Encoding::Json), door(Encoding::Protobuf)],
        control: peer.control,
        recovers: true,
        processes: vec![process],
    })
}

/// A version without what it runs on.
fn short(version: &str) -> &str {
    version.split(',').next().unwrap_or(version).trim_start_matches('v')
}

/// Pushpin as Debian packages it: Condure before it, Zurl behind it, and a backend that subscribes by GRIP. Its
/// packaged limits of messages a second are raised: they drop what is beyond.
fn pushpin(folder: &Path, dialect: Dialect) -> Result<Contestant> {
    let output = Command::new("pushpin").arg("--version").output();
    let Ok(output) = output else { bail!("it is not installed (`cargo xtask bench --setup` installs it)") };
    let version = String::from_utf8_lossy(&output.stdout).trim().replace("pushpin ", "");
    let [public, push, subscribe, http, command] = free_ports()?;
    let backend = Spec::ChannelsGrip { publish: format!("127.0.0.1:{push}") };
    let (backend, ports) = helper("backend", &backend, &folder.join("grip.log"))?;
    let run = subfolder(folder, "run")?;
    let (at, config) = (run.display(), folder.join("pushpin.conf"));
    let text = format!(
        "[global]
include=/usr/lib/pushpin/internal.conf
rundir={at}
ipc_prefix=bench-
port_offset=0
[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:{public}
logdir={at}
log_level=1
client_buffer_size=8192
client_maxconn=15000
[proxy]
routesfile=routes
zurl_out_specs=ipc://{at}/bench-zurl-in
zurl_out_stream_specs=ipc://{at}/bench-zurl-in-stream
zurl_in_specs=ipc://{at}/bench-zurl-out
[handler]
push_in_spec=tcp://127.0.0.1:{push}
push_in_sub_specs=tcp://127.0.0.1:{subscribe}
push_in_http_addr=127.0.0.1
push_in_http_port={http}
command_spec=tcp://127.0.0.1:{command}
message_rate=100000000
message_hwm=1000000
message_wait=5000
"
    );
    fs::write(&config, text)?;
    fs::write(folder.join("routes"), format!("* 127.0.0.1:{},over_http\n", ports.port))?;
    let (log, command) = (folder.join("pushpin.log"), format!("--config={}", config.display()));
    let mut process = Pinned::start("pushpin", PROXY_CORE, &["pushpin".into(), command], &log)?;
    wait_listening(&mut process, public, &log)?;
    wait_listening(&mut process, push, &log)?;
    let door = Door { address: format!("127.0.0.1:{public}"), path: "/".into(), dialect };
    let over = if dialect == Dialect::Grip { "" } else { ", HTTP" };
    Ok(Contestant {
        name: named(format!("pushpin {version}{over}")),
        doors: vec![(Encoding::Json, door)],
        control: ports.control,
        recovers: false,
        processes: vec![process, backend],
    })
}
