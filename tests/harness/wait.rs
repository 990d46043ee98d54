//! Bounded waits for a condition, instead of sleeps.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Polls `probe` every 20 ms until it gives a value; its last complaint is the error after `bound`.
pub async fn eventually<T, F>(what: &str, bound: Duration, probe: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    every(Duration::from_millis(20), what, bound, probe).await
}

/// As [`eventually`], with a pause of one's own.
pub async fn every<T, F>(
    pause: Duration,
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let started = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() > bound => bail!("{what}: not within {bound:?}: {error:#}"),
            Err(_) => tokio::time::sleep(pause).await,
        }
    }
}

/// Limits a future; the error names what did not happen.
pub async fn within<T>(what: &str, bound: Duration, future: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(bound, future).await {
        Ok(result) => result,
        Err(_) => bail!("{what}: not within {bound:?}"),
    }
}
