//! A running gateway: starting it, and stopping it within a bound.

use crate::{
    admin,
    config::Config,
    edge::{Listener, access_log::AccessLog, metrics::Metrics},
    front::Front,
    identity::DevIssuer,
    listen::{Listening, Registry, bind},
    pages,
    planes::{channels::Channels, contract::Sockets, web::Tunnels},
    reload::Reloader,
    snapshot::{Lasting, Snapshot},
    watch,
};
use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{task::JoinHandle, time::Instant};

/// Before the end of a drain, open WebSockets are told to close.
const GOODBYE: Duration = Duration::from_secs(2);

/// While a stop waits, it says so often what for.
const TELL: Duration = Duration::from_secs(1);
/// Seconds for which a connection without a request may outlast being told to leave.
const LEAVE: u32 = 1;

/// How a gateway is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The file that a reload reads again; without one a reload is refused.
    pub source: Option<PathBuf>,
    /// Whether the admin listener issues tokens to anybody. Only on loopback.
    pub dev_issuer: bool,
}

/// The addresses that are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where services reach each other.
    pub internal: SocketAddr,
    /// Metrics, states and reload.
    pub admin: SocketAddr,
}

/// A running gateway.
pub struct Gateway {
    addresses: Addresses,
    front: Arc<Front>,
    reloader: Arc<Reloader>,
    registries: [Arc<Registry>; 2],
    tunnels: Arc<Tunnels>,
    sockets: Arc<Sockets>,
    channels: Arc<Channels>,
    tasks: Vec<JoinHandle<()>>,
    log_writer: Option<std::thread::JoinHandle<()>>,
}

impl Gateway {
    /// Binds the listeners and serves. Must run inside a tokio runtime.
    pub async fn start(config: Config, options: Options) -> anyhow::Result<Self> {
        // A second call in one process finds it installed; both want the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listen = config.listen.clone();
        let loopback = [listen.public, listen.internal, listen.admin].iter().all(|a| a.ip().is_loopback());
        if options.dev_issuer && !loopback {
            bail!("--dev-issuer gives tokens to anybody: it needs all listeners on loopback addresses");
        }
        let metrics = Arc::new(Metrics::default());
        let tunnels = Tunnels::new(Arc::clone(&metrics));
        let sockets = Sockets::new(Arc::clone(&metrics));
        let channels = Arc::<Channels>::default();
        let dev_secret =
            (options.dev_issuer && config.identity.hs256_secret.is_none()).then(random_secret).transpose()?;
        let lasting = Lasting {
            metrics: Arc::clone(&metrics),
            tunnels: Arc::clone(&tunnels),
            sockets: Arc::clone(&sockets),
            channels: Arc::clone(&channels),
            dev_secret,
        };
        let (log, log_writer) = access_log(&config, &metrics);
        let seen = watch::look(&config.contracts.paths.0);
        let snapshot = Snapshot::build(config, &lasting, None).map_err(anyhow::Error::msg)?;
        let bound = |address: SocketAddr, key: &str| {
            bind(address).with_context(|| format!("listen.{key}: {address} cannot be bound"))
        };
        let public = bound(listen.public, "public")?;
        let internal = bound(listen.internal, "internal")?;
        let admin = bound(listen.admin, "admin")?;
        let addresses = Addresses {
            public: public.local_addr()?,
            internal: internal.local_addr()?,
            admin: admin.local_addr()?,
        };
        snapshot.start();
        let limit = snapshot.config.limits.connections.0;
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let front =
            Arc::new(Front { snapshot: Arc::clone(&snapshot), log, draining: AtomicBool::new(false) });
        let reloader = Arc::new(Reloader::new(snapshot, lasting, options.source.clone()));
        let registries = [Arc::<Registry>::default(), Arc::default()];
        let mut tasks = Vec::new();
        for (listener, kind, registry) in
            [(public, Listener::Public, &registries[0]), (internal, Listener::Internal, &registries[1])]
        {
            let listening = Listening {
                kind,
                registry: Arc::clone(registry),
                front: Arc::clone(&front),
                metrics: Arc::clone(&metrics),
                limit,
            };
            tasks.push(tokio::spawn(listening.run(listener)));
            tasks.push(tokio::spawn(Arc::clone(registry).sweep(bounds(&front))));
        }
        tasks.push(tokio::spawn(watch::contracts(Arc::clone(&reloader), seen)));
        let state = admin::State::new(Arc::clone(&reloader), metrics, options.dev_issuer);
        tasks.push(tokio::spawn(admin::serve(admin, state)));
        tracing::info!(public = %addresses.public, internal = %addresses.internal, admin = %addresses.admin, "listening");
        Ok(Self { addresses, front, reloader, registries, tunnels, sockets, channels, tasks, log_writer })
    }

    /// Builds everything that a start would, contracts included, and starts nothing.
    pub fn check(config: Config) -> anyhow::Result<()> {
        built(config).map(drop)
    }

    /// The OpenAPI document that would be served; with `internal`, also of what services alone can call.
    pub fn openapi(config: Config, internal: bool) -> anyhow::Result<serde_json::Value> {
        built(config).map(|snapshot| pages::openapi(&snapshot, internal))
    }

    /// The bound addresses.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Reads the configuration again; a bad one leaves the old one serving and is the error.
    pub async fn reload(&self) -> Result<Vec<String>, String> {
        self.reloader.reload().await
    }

    /// Stops accepting, lets what runs finish within `deadlines.drain`, and ends the rest.
    pub async fn stop(mut self) {
        let bound = self.front.snapshot.load().config.deadlines.drain.0;
        self.front.draining.store(true, Relaxed);
        self.tasks.iter().for_each(JoinHandle::abort);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
        self.registries.iter().for_each(|registry| registry.wake());
        let until = Instant::now() + bound;
        // The last ones still have a closing handshake before them.
        self.channels.drain(bound - bound / 4);
        let open = || self.open();
        // A closing handshake is part of the drain, so it begins before the bound.
        let goodbye = until - (bound / 4).min(GOODBYE);
        let mut told = Instant::now();
        while open() > 0 && Instant::now() < until {
            let last = Instant::now() >= goodbye;
            if told.elapsed() >= TELL {
                told = Instant::now();
                self.tell_open();
                // Told to leave, and asking for nothing: a client of HTTP/2 that answers no ping would stay, and so
                // would one whose first request never becomes whole.
                self.registries.iter().for_each(|registry| registry.tick(LEAVE, LEAVE));
            }
            if last {
                self.sockets.stop();
            }
            self.channels.release(last);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if open() > 0 {
            tracing::warn!(open = open(), "the drain's bound has passed; what is open is closed");
            self.tunnels.abort();
            self.channels.abort();
            self.registries.iter().for_each(|registry| registry.close());
            let until = Instant::now() + Duration::from_secs(1);
            while open() > 0 && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if let Some(log) = &self.front.log {
            log.close();
        }
        if let Some(writer) = self.log_writer.take() {
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

impl Gateway {
    /// What a stop waits for.
    fn open(&self) -> usize {
        let connections = self.registries.iter().map(|r| r.count()).sum::<usize>();
        connections + self.tunnels.count() + self.sockets.count() + self.channels.count()
    }

    fn tell_open(&self) {
        tracing::info!(
            public = self.registries[0].count(),
            internal = self.registries[1].count(),
            tunnels = self.tunnels.count(),
            sockets = self.sockets.count(),
            channels = self.channels.count(),
            "still open"
        );
    }
}

/// A snapshot in which nothing runs.
fn built(config: Config) -> anyhow::Result<Snapshot> {
    let metrics = Arc::new(Metrics::default());
    let tunnels = Tunnels::new(Arc::clone(&metrics));
    let sockets = Sockets::new(Arc::clone(&metrics));
    let lasting = Lasting { metrics, tunnels, sockets, channels: Arc::default(), dev_secret: None };
    Snapshot::build(config, &lasting, None).map_err(anyhow::Error::msg)
}

fn access_log(
    config: &Config,
    metrics: &Arc<Metrics>,
) -> (Option<Arc<AccessLog>>, Option<std::thread::JoinHandle<()>>) {
    if !config.log.access.0 {
        return (None, None);
    }
    let (log, thread) = AccessLog::start(config.log.format, Arc::clone(metrics), std::io::stdout());
    (Some(log), Some(thread))
}

fn bounds(front: &Arc<Front>) -> impl Fn() -> (u32, u32) + use<> {
    let front = Arc::clone(front);
    move || {
        let snapshot = front.snapshot.load();
        let seconds =
            |millis: crate::config::Millis| u32::try_from(millis.0.as_secs().max(1)).unwrap_or(u32::MAX);
        (seconds(snapshot.config.deadlines.request_head), seconds(snapshot.config.deadlines.keep_alive))
    }
}

fn random_secret() -> anyhow::Result<Vec<u8>> {
    let mut secret = vec![0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut secret).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(secret)
}

/// The issuer for `--dev-issuer`, with the secret in force.
pub(crate) fn dev_issuer(reloader: &Reloader) -> Option<DevIssuer> {
    let snapshot = reloader.snapshot();
    let secret = reloader.lasting().hs256_secret(&snapshot.config)?;
    Some(DevIssuer::new(&snapshot.config.identity, secret))
}
