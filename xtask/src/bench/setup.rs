//! Installs the peers and the load generator, and says what is missing. Starts no service.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

const PROGRAMS: &[(&str, &[&str])] = &[
    ("nginx", &["proxy", "tunnel"]),
    ("haproxy", &["proxy", "tunnel"]),
    ("wrk", &["proxy"]),
    // Channels are measured without it, too.
    ("pushpin", &[]),
    (
        "taskset",
        &[
            "proxy",
            "tunnel",
            "ai-call",
            "transcode",
            "calls",
            "streams",
            "slow-readers",
            "reload",
            "fanout",
            "latency",
            "idle",
            "jitter",
            "storm",
        ],
    ),
];

/// An error that names what the benchmarks `names` need and do not find.
pub(super) fn check(names: &[&str]) -> Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "the benchmarks read /proc and pin processes to cores: they need Linux"
    );
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, benches)| names.iter().any(|name| benches.contains(name)) && !found(program))
        .map(|(program, _)| *program)
        .collect();
    ensure!(missing.is_empty(), "missing: {}; `cargo xtask bench --setup` installs them", missing.join(", "));
    Ok(())
}

/// Installs what is missing: programs with apt-get (elsewhere says what to install), and the peers that npm has.
pub(super) fn install() -> Result<()> {
    programs()?;
    let folder = super::channels::node_peers();
    let status = Command::new("npm").arg("ci").current_dir(&folder).status().context("run npm")?;
    ensure!(status.success(), "npm ci in {} ended with {status}", folder.display());
    Ok(())
}

fn programs() -> Result<()> {
    let missing: Vec<_> = PROGRAMS.iter().map(|(program, _)| *program).filter(|p| !found(p)).collect();
    if missing.is_empty() {
        println!("nginx, haproxy, wrk, pushpin and taskset are there.");
        return Ok(());
    }
    if !found("apt-get") {
        bail!(
            "install {} with this system's package manager (taskset is part of util-linux)",
            missing.join(", ")
        );
    }
    let packages: Vec<_> = missing.iter().map(|p| if *p == "taskset" { "util-linux" } else { p }).collect();
    let _policy = NoAutostart::begin()?;
    root(&["apt-get", "update", "-qq"])?;
    let options = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"];
    root(&[&options[..], &packages].concat())?;
    for service in ["nginx", "haproxy", "pushpin"] {
        // Only what this installed: a service that ran before stays as it was.
        if missing.contains(&service) && Path::new("/run/systemd/system").exists() {
            root(&["systemctl", "disable", service])?;
        }
    }
    println!("Installed {}; no service was started.", packages.join(", "));
    Ok(())
}

/// While it lives, packages that are installed do not start their services (Debian's policy-rc.d).
struct NoAutostart {
    ours: bool,
}

impl NoAutostart {
    const FILE: &'static str = "/usr/sbin/policy-rc.d";

    fn begin() -> Result<Self> {
        let ours = !Path::new(Self::FILE).exists();
        if ours {
            let script = std::env::temp_dir().join(format!("policy-rc.d-{}", std::process::id()));
            fs::write(&script, "#!/bin/sh\nexit 101\n")?;
            root(&["install", "-m", "755", &script.to_string_lossy(), Self::FILE])?;
            fs::remove_file(script)?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoAutostart {
    fn drop(&mut self) {
        if self.ours {
            let _ = root(&["rm", "-f", Self::FILE]);
        }
    }
}

/// Runs a command as root: directly, or by sudo.
fn root(command: &[&str]) -> Result<()> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    let command: Vec<_> = if is_root { command.to_vec() } else { [&["sudo"], command].concat() };
    let status = Command::new(command[0])
        .args(&command[1..])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .with_context(|| format!("run {}", command.join(" ")))?;
    ensure!(status.success(), "{} ended with {status}", command.join(" "));
    Ok(())
}

/// Whether a program is on PATH or where Debian keeps servers.
fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).collect::<Vec<_>>();
    folders.extend(["/usr/sbin".into(), "/sbin".into()]);
    folders.iter().any(|folder| folder.join(program).is_file())
}
