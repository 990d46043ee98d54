//! Watches the contracts' files, so that an edited `.proto` is served at once, without a signal to the gateway.

use crate::reload::Reloader;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Between two looks. Looking costs one `stat` for each file, and no more on systems that cannot tell of changes.
const PAUSE: Duration = Duration::from_millis(500);

/// What is seen of the files: names, times and sizes.
pub(crate) type Seen = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// Reloads after a change that has settled: an editor that is still writing, or a copy that is still under way, is
/// waited for. A bad contract leaves the old one serving, as with every reload. `served` was seen before what serves now
/// was read: what changed since then counts.
pub(crate) async fn contracts(reloader: Arc<Reloader>, served: Seen) {
    let look = || {
        let config = Arc::clone(&reloader.snapshot().config);
        let wanted = config.contracts.watch.0 && reloader.can_reload();
        async move {
            let look = move || wanted.then(|| look(&config.contracts.paths.0));
            tokio::task::spawn_blocking(look).await.ok().flatten()
        }
    };
    let mut served = Some(served);
    let mut last = None;
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = look().await;
        if now != served && now == last && now.is_some() {
            tracing::info!("the contracts' files have changed");
            // Whatever comes of it is logged, and not tried again before the next change.
            let _ = reloader.reload().await;
            served.clone_from(&now);
        }
        last = now;
    }
}

/// What is there now.
pub(crate) fn look(paths: &[PathBuf]) -> Seen {
    let mut seen = vec![];
    for path in paths {
        visit(path, &mut seen);
    }
    seen.sort();
    seen
}

/// A file, or all contracts below a folder. Links are followed: Kubernetes swaps a volume's files by one.
fn visit(path: &Path, seen: &mut Seen) {
    let Ok(metadata) = fs::metadata(path) else { return };
    if metadata.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if !hidden && (entry.path().is_dir() || name.as_encoded_bytes().ends_with(b".proto")) {
                visit(&entry.path(), seen);
            }
        }
    } else {
        seen.push((path.to_owned(), metadata.modified().ok(), metadata.len()));
    }
}
