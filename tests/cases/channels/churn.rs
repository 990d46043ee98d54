//! A bad network, and deploys: nothing is lost, repeated or out of order, and no socket is closed.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use blackbox::{
    Sut,
    random::{Random, seed, unique},
    runner::Group,
};
use tokio::net::TcpListener;
use xtask::bench::channels::{
    backend::controlled,
    churn::{Jitter, jitter},
    deploy::{Crowd, Outcome, Work},
    session::{Dialect, Door},
    user::PATH,
    wire::Encoding,
};

use super::app;

const DEPLOYS: usize = 10;

pub(crate) fn add(group: Group) -> Group {
    group
        .test("channels on a bad network: everything comes, once and in order", bad_network)
        .test(&format!("channels: {DEPLOYS} deploys of Node lose no socket and no message"), deploys)
}

async fn bad_network(sut: Arc<Sut>) -> Result<()> {
    let app = app::attach(&sut).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let job = Jitter {
        door: Door {
            address: sut.address("public"),
            path: PATH.into(),
            dialect: Dialect::Channels(Encoding::Json),
        },
        control: listener.local_addr()?.port(),
        clients: 50,
        rate: 20.0,
        seconds: 20.0,
        every: 5.0,
        away: 1.0,
    };
    let serving = tokio::spawn(async move { controlled(&app, &listener).await });
    // The load keeps to one thread, and has a runtime of its own.
    let load = tokio::task::spawn_blocking(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(jitter(job))
    });
    let outcome = load.await??;
    serving.abort();
    let clients = 50;
    ensure!(outcome.returns >= 150, "{outcome:?}");
    ensure!(outcome.tally.delivered == outcome.published * clients, "{outcome:?}");
    ensure!(outcome.tally.missing + outcome.tally.repeated == 0, "{outcome:?}");
    ensure!(outcome.unrecovered + outcome.broken == 0, "{outcome:?}");
    ensure!(outcome.replay_p99_ms < 1000.0, "{outcome:?}");
    Ok(())
}

async fn deploys(sut: Arc<Sut>) -> Result<()> {
    let seed = seed()?;
    eprintln!("deploys: BLACKBOX_SEED={seed} repeats this run");
    let mut random = Random::seeded(seed);
    let writers = (0..5).map(|_| sut.token(&unique())).collect::<Result<_>>()?;
    let crowd = Crowd { address: sut.address("public"), room: unique(), writers, readers: 20 };
    let work = Work::begin(crowd).await?;
    for _ in 0..DEPLOYS {
        // No wait for a condition: the moment of the fault is what is random here.
        tokio::time::sleep(Duration::from_millis(random.within(20..400))).await;
        sut.kill("realtime").await?;
        sut.restart("realtime").await?;
    }
    let outcome = work.end().await?;
    let good = Outcome { acknowledged: outcome.acknowledged, retries: outcome.retries, ..Outcome::default() };
    ensure!(outcome == good, "{outcome:?}");
    ensure!(outcome.acknowledged >= 20, "too few to say anything: {outcome:?}");
    Ok(())
}
