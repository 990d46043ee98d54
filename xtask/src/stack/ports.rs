//! Ports: the manifest's numbers with overrides for people, free ones for tests, and the check that nobody else
//! holds them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use super::manifest::{Manifest, Process};

/// Where the port numbers come from.
#[derive(Debug, Clone)]
pub enum Ports {
    /// The manifest's, except those given here by name.
    Manifest(BTreeMap<String, u16>),
    /// Free ones below the range from which systems take the ports of outgoing connections, except those given
    /// here by name. No other stack of this process gets the same ones.
    Free(BTreeMap<String, u16>),
}

/// Below every common system's ephemeral range (Linux 32768, macOS 49152), above the well-known services.
const FREE: std::ops::Range<u16> = 18_000..30_000;

/// Ports that stacks of this process have taken: they may be free for a moment, between a stop and a start.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// The number of every port of the manifest.
pub(crate) fn resolve(manifest: &Manifest, ports: &Ports) -> Result<BTreeMap<String, u16>> {
    let (Ports::Manifest(given) | Ports::Free(given)) = ports;
    for name in given.keys() {
        let known: Vec<_> = manifest.ports.keys().map(String::as_str).collect();
        ensure!(
            manifest.ports.contains_key(name),
            "there is no port called {name:?}; known: {}",
            known.join(", ")
        );
    }
    let mut resolved = BTreeMap::new();
    for (name, default) in &manifest.ports {
        let port = match (given.get(name), ports) {
            (Some(port), _) => *port,
            (None, Ports::Manifest(_)) => *default,
            (None, Ports::Free(_)) => free_port()?,
        };
        resolved.insert(name.clone(), port);
    }
    Ok(resolved)
}

/// A free loopback port outside the ephemeral range, never the same twice in one process.
pub fn free_port() -> Result<u16> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let count = FREE.end - FREE.start;
    // Processes start at different places, so that two test programs rarely want the same port.
    let first = (std::process::id().wrapping_mul(2_654_435_761) >> 8) % u32::from(count);
    (0..count)
        .map(|step| FREE.start + ((first + u32::from(step)) % u32::from(count)) as u16)
        .find(|port| !taken.contains(port) && is_free(*port))
        .inspect(|port| {
            taken.insert(*port);
        })
        .with_context(|| format!("no port from {} to {} is free", FREE.start, FREE.end - 1))
}

/// Whether a process could listen on this loopback port now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Fails with the port, the process that wants it, and how to change it, if one of `process`'s ports is taken.
pub(crate) fn check(process: &Process, ports: &BTreeMap<String, u16>) -> Result<()> {
    for name in &process.ports {
        let port = ports[name];
        ensure!(
            is_free(port),
            "port {port} is taken, and {} wants it as its port {name:?}.\n  Stop what listens there (`lsof -nP \
             -iTCP:{port} -sTCP:LISTEN` names it), or choose another: --port {name}={}",
            process.name,
            free_port().unwrap_or(port.wrapping_add(1000)),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let text = "[ports]\na = 4001\nb = 4002\n[[process]]\nname = \"p\"\nports = [\"a\"]\ncommand = [\"x\"]\n\
                    ready = { tcp = \"127.0.0.1:{port.a}\" }";
        Manifest::parse(text).unwrap()
    }

    #[test]
    fn free_ports_differ_and_stay_below_the_ephemeral_range() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| FREE.contains(port)));
    }

    #[test]
    fn an_override_wins_and_an_unknown_name_is_refused() {
        let ports = resolve(&manifest(), &Ports::Manifest([("b".to_owned(), 5000)].into())).unwrap();
        assert_eq!((ports["a"], ports["b"]), (4001, 5000));
        let error = resolve(&manifest(), &Ports::Manifest([("c".to_owned(), 1)].into())).unwrap_err();
        assert!(error.to_string().contains("known: a, b"), "{error}");
    }

    #[test]
    fn a_taken_port_names_port_process_and_remedy() {
        let port = free_port().unwrap();
        let _holder = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let manifest = manifest();
        let message = check(&manifest.process[0], &[("a".to_owned(), port)].into()).unwrap_err().to_string();
        for part in [format!("port {port} is taken"), "p wants it".into(), "--port a=".into()] {
            assert!(message.contains(&part), "{message}");
        }
    }
}
