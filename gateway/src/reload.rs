//! Reload: reads the file again and swaps everything built from it at once. A bad file changes nothing.

use crate::{
    background, config,
    snapshot::{Lasting, Snapshot},
};
use arc_swap::ArcSwap;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Requests that go on for longer than this free the configuration that they began with.
const RETIRED: Duration = Duration::from_secs(60);

/// Reloads the configuration of a running gateway.
pub(crate) struct Reloader {
    current: Arc<ArcSwap<Snapshot>>,
    lasting: Lasting,
    source: Option<PathBuf>,
    /// One reload at a time.
    turn: Mutex<()>,
}

impl Reloader {
    pub(crate) fn new(current: Arc<ArcSwap<Snapshot>>, lasting: Lasting, source: Option<PathBuf>) -> Self {
        Self { current, lasting, source, turn: Mutex::new(()) }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    pub(crate) fn lasting(&self) -> &Lasting {
        &self.lasting
    }

    /// Whether there is a file to read again.
    pub(crate) fn can_reload(&self) -> bool {
        self.source.is_some()
    }

    /// The names of what takes effect at the next start only, or why nothing changed.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<Vec<String>, String> {
        let _turn = self.turn.lock().await;
        let me = Arc::clone(self);
        // Compiling large contracts takes a while; requests go on meanwhile.
        let built = background::run("reload", move || me.build()).await;
        let built = built.unwrap_or_else(|error| Err(error.to_string()));
        let result = built.map(|(new, ignored)| {
            new.start();
            tokio::spawn(retire(self.current.swap(Arc::new(new))));
            ignored
        });
        let counter = &self.lasting.metrics.reloads[usize::from(result.is_err())];
        counter.fetch_add(1, Relaxed);
        match &result {
            Ok(ignored) => tracing::info!(at_next_start = ?ignored, "configuration reloaded"),
            Err(error) => tracing::error!(%error, "configuration refused; the old one stays"),
        }
        result
    }

    fn build(&self) -> Result<(Snapshot, Vec<String>), String> {
        let source = self.source.as_ref().ok_or("the gateway was started without a configuration file")?;
        let config = config::load(source).map_err(|error| error.to_string())?;
        let old = self.snapshot();
        let ignored = at_next_start(&old.config, &config);
        let new = Snapshot::build(config, &self.lasting, Some(&old))?;
        Ok((new, ignored))
    }
}

/// Frees what nobody uses any more. Of large contracts that takes milliseconds, and else the last request to hold them
/// would wait for it.
async fn retire(old: Arc<Snapshot>) {
    let until = Instant::now() + RETIRED;
    while Arc::strong_count(&old) > 1 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if let Err(error) = background::run("retire", move || drop(old)).await {
        tracing::warn!(%error, "the old configuration was freed among requests");
    }
}

/// Whose secret signs the tickets of channels; none before there are channels.
fn signs(config: &config::Config) -> Option<&config::Secret> {
    let first = config.channels.as_ref()?.services.0.first()?;
    config.upstreams.get(first)?.secret.as_ref()
}

/// What a running gateway cannot change.
fn at_next_start(old: &config::Config, new: &config::Config) -> Vec<String> {
    let changed = [
        ("listen.public", old.listen.public != new.listen.public),
        ("listen.internal", old.listen.internal != new.listen.internal),
        ("listen.admin", old.listen.admin != new.listen.admin),
        ("channels.services", signs(old).is_some_and(|old| signs(new).is_some_and(|new| old != new))),
        ("limits.connections", old.limits.connections != new.limits.connections),
        (
            "log",
            (old.log.format, &old.log.level, old.log.access)
                != (new.log.format, &new.log.level, new.log.access),
        ),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.to_owned()).collect()
}
