//! How much slower this machine is now than when it is left alone, for the tests that measure time.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

const SPINS: usize = 25;
const ITERATIONS: u64 = 1_000_000;

/// 1 on an idle machine; 3 if everything takes three times as long because others compute as well.
/// Takes all cores for a moment, as the models do. The fastest of many short spins had a core for itself; their
/// mean had not.
pub async fn contention() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads: Vec<_> = (0..cores).map(|_| tokio::task::spawn_blocking(spins)).collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.await.unwrap_or_default());
    }
    let fastest = all.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    (mean / fastest).max(1.0)
}

fn spins() -> Vec<f64> {
    (0..SPINS).map(|_| spin().as_secs_f64()).collect()
}

fn spin() -> Duration {
    let started = Instant::now();
    let sum = (0..black_box(ITERATIONS)).fold(0_u64, |sum, number| sum.wrapping_add(black_box(number)));
    black_box(sum);
    started.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn contention_is_at_least_one() {
        assert!(contention().await >= 1.0);
    }
}
