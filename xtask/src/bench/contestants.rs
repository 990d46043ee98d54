//! The proxies under test, each with one worker on core 0, in front of the same upstream:
//! the gateway with its real configuration, and nginx and haproxy with the settings they recommend.

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::{
    helper::{Spec, Target},
    process::{Helper, PROXY_CORE, Pinned},
};
use crate::stack::forget_cargo;

const SECRET: &str = "a-secret-for-benchmarks-only-0123456789";

/// A proxy that runs.
pub(super) struct Contestant {
    pub(super) name: &'static str,
    pub(super) process: Pinned,
    address: String,
}

/// The proxies with their upstream; dropped, all of them end.
pub(super) struct Field {
    pub(super) proxies: Vec<Contestant>,
    _upstream: Helper,
    _folder: Folder,
}

/// What a server says when it listens.
#[derive(Deserialize)]
pub(super) struct Ready {
    pub(super) port: u16,
}

/// Builds optimised programs of this workspace, by their packages.
pub(super) fn build(packages: &[&str]) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--release"])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .current_dir(root());
    forget_cargo(&mut command);
    ensure!(command.status()?.success(), "the release build failed");
    Ok(())
}

/// An optimised program of this workspace.
pub(super) fn program(name: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("release").join(name)
}

/// The repository's root.
pub(super) fn root() -> PathBuf {
    crate::root()
}

/// A token that the benchmarks' gateway accepts, valid for an hour.
pub(super) fn token() -> Result<String> {
    sign(
        SECRET,
        &serde_json::json!({"sub": "alice", "scope": "notes text.embed", "iss": "hybrid-dev", "aud": "hybrid"}),
    )
}

/// Signs `claims` with HS256, valid for an hour from now.
pub(super) fn sign(secret: &str, claims: &serde_json::Value) -> Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut claims = claims.clone();
    claims["iat"] = now.into();
    claims["exp"] = (now + 3600).into();
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key)?)
}

impl Field {
    /// Starts all contestants, each proven by a request.
    pub(super) fn start() -> Result<Self> {
        let folder = Folder::new()?;
        let mut upstream = Helper::start(&program("xtask"), &Spec::Upstream)?;
        let port = upstream.line::<Ready>()?.port;
        let proxies = vec![gateway(&folder.0, port)?, nginx(&folder.0, port)?, haproxy(&folder.0, port)?];
        Ok(Self { proxies, _upstream: upstream, _folder: folder })
    }
}

impl Contestant {
    /// This proxy as the target of a load.
    pub(super) fn target(&self, path: &str, token: &str) -> Target {
        Target { address: self.address.clone(), path: path.into(), token: token.into() }
    }
}

/// The demo stack's configuration with ports and secrets of its own, and the route behind a token.
fn gateway(folder: &Path, upstream: u16) -> Result<Contestant> {
    let [public, internal, admin, nowhere] = free_ports()?;
    let secret = folder.join("secret");
    fs::write(&secret, SECRET)?;
    let secret = secret.display().to_string();
    let env = [
        ("LISTEN__PUBLIC", format!("127.0.0.1:{public}")),
        ("LISTEN__INTERNAL", format!("127.0.0.1:{internal}")),
        ("LISTEN__ADMIN", format!("127.0.0.1:{admin}")),
        ("IDENTITY__HS256_SECRET_FILE", secret.clone()),
        ("UPSTREAMS__REALTIME__ADDRESS", format!("127.0.0.1:{upstream}")),
        ("UPSTREAMS__REALTIME__SECRET_FILE", secret.clone()),
        ("UPSTREAMS__AI__ADDRESS", format!("127.0.0.1:{nowhere}")),
        ("UPSTREAMS__AI__SECRET_FILE", secret),
        ("ROUTES__API__ACCESS", "authenticated".into()),
        // No logs on any side.
        ("LOG__ACCESS", "false".into()),
        ("LOG__LEVEL", "off".into()),
    ]
    .map(|(key, value)| (format!("GATEWAY__{key}"), value));
    let config = root().join("gateway/gateway.toml");
    let command = [program("gateway"), "run".into(), "--config".into(), config];
    let command = command.map(|part| part.display().to_string());
    let log = folder.join("gateway.log");
    let process = Pinned::start_with("gateway", PROXY_CORE, &command, &env, &log)?;
    let gateway = ready("gateway", process, public, &log)?;
    let refused = status(&gateway.address, "/api/bench/200", None)?;
    ensure!(refused == 401, "the gateway answered {refused} to a request without a token, not 401");
    Ok(gateway)
}

/// A gateway with nothing but the benchmarks' contract, and perhaps a folder with more, served by one gRPC upstream; and
/// the port of its admin listener.
pub(super) fn contract_gateway(
    folder: &Path,
    upstream: u16,
    more: Option<&Path>,
) -> Result<(Contestant, u16)> {
    let [public, internal, admin] = free_ports()?;
    let (secret, root) = (folder.join("contract-secret"), root());
    fs::write(&secret, SECRET)?;
    let config = folder.join("contract.toml");
    let mut paths = format!("{:?}, {:?}", root.join("proto"), root.join("xtask/peers/proto"));
    let mut packages = "";
    if let Some(more) = more {
        paths += &format!(", {more:?}");
        packages = "\"bench.many\" = \"bench\"";
    }
    let text = format!(
        "[listen]
public = \"127.0.0.1:{public}\"
internal = \"127.0.0.1:{internal}\"
admin = \"127.0.0.1:{admin}\"
[identity]
hs256_secret_file = {secret:?}
[log]
access = false
level = \"off\"
[contracts]
paths = [{paths}]
[contracts.packages]
bench = \"bench\"
{packages}
[upstreams.bench]
protocol = \"grpc\"
address = \"127.0.0.1:{upstream}\"
secret_file = {secret:?}
"
    );
    fs::write(&config, text)?;
    let command = [program("gateway"), "run".into(), "--config".into(), config];
    let command = command.map(|part| part.display().to_string());
    let log = folder.join("contract-gateway.log");
    let process = Pinned::start("gateway", PROXY_CORE, &command, &log)?;
    Ok((listening("gateway", process, public, &log)?, admin))
}

/// The gateway by hand, in front of the same upstream.
pub(super) fn by_hand(folder: &Path, upstream: u16) -> Result<Contestant> {
    let command = [program("peers").display().to_string(), "serve".into(), format!("127.0.0.1:{upstream}")];
    says_port(
        "axum, pbjson, tonic",
        &command,
        &[("SECRET".into(), SECRET.into())],
        &folder.join("by-hand.log"),
    )
}

/// A gateway that chooses its port and says it.
pub(super) fn says_port(
    name: &'static str,
    command: &[String],
    env: &[(String, String)],
    log: &Path,
) -> Result<Contestant> {
    let mut process = Pinned::start_with(name, PROXY_CORE, command, env, log)?;
    let until = Instant::now() + Duration::from_secs(15);
    let port = loop {
        process.check(log)?;
        if let Ok(ready) = serde_json::from_str::<Ready>(&fs::read_to_string(log)?) {
            break ready.port;
        }
        ensure!(Instant::now() < until, "{name} does not say its port");
        thread::sleep(Duration::from_millis(20));
    };
    listening(name, process, port, log)
}

/// Waits until the port takes connections; the load's first round proves the rest.
fn listening(name: &'static str, mut process: Pinned, port: u16, log: &Path) -> Result<Contestant> {
    let address = format!("127.0.0.1:{port}");
    let until = Instant::now() + Duration::from_secs(15);
    while TcpStream::connect(&address).is_err() {
        process.check(log)?;
        ensure!(Instant::now() < until, "{name} does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Contestant { name, process, address })
}

fn nginx(folder: &Path, upstream: u16) -> Result<Contestant> {
    let [port] = free_ports()?;
    let config = format!(
        "worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_read_timeout 3600s;
    }}
  }}
}}
",
        folder = folder.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let command = [
        "nginx",
        "-p",
        &folder.display().to_string(),
        "-c",
        &file.display().to_string(),
        "-g",
        "daemon off;",
    ]
    .map(String::from);
    peer("nginx", &command, port, folder)
}

fn haproxy(folder: &Path, upstream: u16) -> Result<Contestant> {
    let [port] = free_ports()?;
    let config = format!(
        "global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  option http-keep-alive
  http-reuse always
frontend public
  bind 127.0.0.1:{port}
  default_backend app
backend app
  server app 127.0.0.1:{upstream}
"
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config)?;
    let command = ["haproxy", "-db", "-f", &file.display().to_string()].map(String::from);
    peer("haproxy", &command, port, folder)
}

fn peer(name: &'static str, command: &[String], port: u16, folder: &Path) -> Result<Contestant> {
    let log = folder.join(format!("{name}.log"));
    let process = Pinned::start(name, PROXY_CORE, command, &log)?;
    ready(name, process, port, &log)
}

/// Waits until a request comes back through the proxy.
fn ready(name: &'static str, mut process: Pinned, port: u16, log: &Path) -> Result<Contestant> {
    let address = format!("127.0.0.1:{port}");
    let token = token()?;
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        process.check(log)?;
        match status(&address, "/api/bench/200", Some(&token)) {
            Ok(200) => return Ok(Contestant { name, process, address }),
            result if Instant::now() > until => {
                bail!("{name} answered {result:?}:\n{}", fs::read_to_string(log).unwrap_or_default())
            }
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The status of a GET.
fn status(address: &str, path: &str, token: Option<&str>) -> Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n{authorization}connection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let status = response.split(' ').nth(1).context("no status line")?;
    Ok(status.parse()?)
}

/// Ports that nothing listens on now.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// A temporary folder that goes with its owner.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Self> {
        let unique = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let path = env::temp_dir().join(format!("hybrid-bench-{unique}"));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
