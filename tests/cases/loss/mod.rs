//! Loss: services are killed again and again under writes. Whatever was acknowledged is there afterwards,
//! whatever was deleted stays deleted, and the search index agrees.

mod documents;
mod notes;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use blackbox::{
    Sut,
    random::{Random, seed},
    runner::Group,
};

const ROUNDS: usize = 50;
const NOTE_WRITERS: usize = 3;
const DOCUMENT_WRITERS: usize = 2;

pub(crate) fn add(group: Group) -> Group {
    let name = format!("nothing acknowledged is lost in {ROUNDS} rounds of SIGKILL");
    group.long_test(&name, Duration::from_secs(900), killed_under_writes)
}

async fn killed_under_writes(sut: Arc<Sut>) -> Result<()> {
    let seed = seed()?;
    eprintln!("loss: BLACKBOX_SEED={seed} repeats this run");
    rounds(sut, Random::seeded(seed)).await.with_context(|| format!("with BLACKBOX_SEED={seed}"))
}

async fn rounds(sut: Arc<Sut>, mut random: Random) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..NOTE_WRITERS)
        .map(|_| tokio::spawn(notes::write(Arc::clone(&sut), random.fork(), Arc::clone(&stop))))
        .collect();
    let editors: Vec<_> = (0..DOCUMENT_WRITERS)
        .map(|_| tokio::spawn(documents::write(Arc::clone(&sut), random.fork(), Arc::clone(&stop))))
        .collect();
    let started = Instant::now();
    for round in 0..ROUNDS {
        kill(&sut, &mut random).await.with_context(|| format!("round {}", round + 1))?;
    }
    eprintln!("loss: {ROUNDS} rounds took {:.0?}", started.elapsed());
    stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut updates) = (Vec::new(), 0);
    for editor in editors {
        updates += editor.await??;
    }
    for writer in writers {
        acknowledged.extend(writer.await??);
    }
    let (count, deleted) = (acknowledged.len(), acknowledged.iter().filter(|note| note.is_deleted()).count());
    eprintln!("loss: {count} notes, {deleted} of them deleted, and {updates} document updates are read back");
    notes::verify(&sut, acknowledged).await
}

/// One round: lets the writers work for a while, kills one service or both, and starts them again.
async fn kill(sut: &Arc<Sut>, random: &mut Random) -> Result<()> {
    let victims: &[&'static str] = match random.within(0..10) {
        0..6 => &["realtime"],
        6..9 => &["ai"],
        _ => &["realtime", "ai"],
    };
    // No wait for a condition: the moment of the fault is what is random here.
    tokio::time::sleep(Duration::from_millis(random.within(20..400))).await;
    for victim in victims {
        sut.kill(victim).await?;
    }
    tokio::time::sleep(Duration::from_millis(random.within(0..100))).await;
    for victim in victims {
        sut.restart(victim).await?;
    }
    Ok(())
}
