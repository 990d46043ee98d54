//! What the load's process does, on a core of its own: holds the receivers, tells the application what to publish,
//! and counts what comes.

use std::{cell::RefCell, rc::Rc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Notify,
    task::LocalSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    backend::Done,
    marks::{Durations, Tally, now_us},
    session::{Door, Session, Step},
};
use crate::bench::process;

/// Handshakes at the same time, so that a listener's queue is not what is measured.
const OPENING: usize = 64;
const OPENING_TRIES: usize = 8;
const OPENING_PAUSE: Duration = Duration::from_millis(250);
/// Messages that may be under way to the slowest receiver.
const RING: usize = 1 << 16;

/// How fast the application is told to publish.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Pace {
    /// So many messages may be on their way to the slowest receiver: as fast as they are received.
    Window(u64),
    /// So many each second, whatever comes of them.
    Rate(f64),
}

/// One contestant under a load of messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::bench) struct Fan {
    pub(in crate::bench) door: Door,
    pub(in crate::bench) control: u16,
    pub(in crate::bench) pids: Vec<u32>,
    pub(in crate::bench) subscribers: usize,
    pub(in crate::bench) pace: Pace,
    pub(in crate::bench) warm_up: f64,
    pub(in crate::bench) seconds: f64,
}

/// What became of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::bench) struct Fanned {
    /// Messages published each second that every receiver got.
    pub(in crate::bench) messages_per_second: f64,
    pub(in crate::bench) deliveries_per_second: f64,
    /// Of the serving processes, for all deliveries of the time that was measured.
    pub(in crate::bench) deliveries_per_cpu_second: f64,
    pub(in crate::bench) p50_ms: f64,
    pub(in crate::bench) p99_ms: f64,
    pub(in crate::bench) tally: Tally,
}

/// What all receivers share.
struct Shared {
    /// How often message `number % RING` came.
    counts: Vec<u32>,
    receivers: u32,
    /// All messages up to this one came everywhere.
    complete: u64,
    deliveries: u64,
    durations: Durations,
    failure: Option<anyhow::Error>,
    progress: Rc<Notify>,
}

impl Shared {
    fn count(&mut self, number: u64, at: u64, now: u64) {
        self.deliveries += 1;
        self.durations.add(now.saturating_sub(at));
        self.counts[number as usize % RING] += 1;
        while self.counts[(self.complete + 1) as usize % RING] == self.receivers {
            self.complete += 1;
            self.counts[self.complete as usize % RING] = 0;
            self.progress.notify_one();
        }
    }
}

/// Opens connections, a few at a time. Whoever is refused tries again: pushpin answers some of a burst with 502.
pub(in crate::bench) async fn open_all(door: &Door, count: usize) -> Result<Vec<Session>> {
    use futures_util::{StreamExt, TryStreamExt, stream};
    let opening = stream::iter(0..count).map(|index| async move {
        let mut tries = 1;
        loop {
            match Session::open(door, None).await {
                Err(_) if tries < OPENING_TRIES => sleep(OPENING_PAUSE).await,
                opened => return opened.with_context(|| format!("client {} of {count}", index + 1)),
            }
            tries += 1;
        }
    });
    opening.buffer_unordered(OPENING).try_collect().await
}

/// Publishes to many receivers and measures.
pub(in crate::bench) async fn fan(job: Fan) -> Result<Fanned> {
    LocalSet::new().run_until(fan_out(job)).await
}

async fn fan_out(job: Fan) -> Result<Fanned> {
    let control = Control::connect(job.control).await?;
    let first = control.done.number;
    let sessions = open_all(&job.door, job.subscribers).await?;
    let progress = Rc::new(Notify::new());
    let shared = Rc::new(RefCell::new(Shared {
        counts: vec![0; RING],
        receivers: sessions.len() as u32,
        complete: first,
        deliveries: 0,
        durations: Durations::default(),
        failure: None,
        progress: Rc::clone(&progress),
    }));
    let tallies = Rc::new(RefCell::new(vec![Tally::default(); sessions.len()]));
    for (index, session) in sessions.into_iter().enumerate() {
        let (shared, tallies) = (Rc::clone(&shared), Rc::clone(&tallies));
        tokio::task::spawn_local(async move {
            if let Err(error) = receive(session, index, &shared, &tallies).await {
                let mut shared = shared.borrow_mut();
                shared.failure.get_or_insert(error.context(format!("receiver {index}")));
                shared.progress.notify_one();
            }
        });
    }
    let pacing = tokio::task::spawn_local(pace(control, job.pace, Rc::clone(&shared), progress));
    sleep(Duration::from_secs_f64(job.warm_up)).await;
    let before = Reading::take(&job.pids, &shared)?;
    shared.borrow_mut().durations.clear();
    sleep(Duration::from_secs_f64(job.seconds)).await;
    let after = Reading::take(&job.pids, &shared)?;
    pacing.abort();
    let mut shared = shared.borrow_mut();
    if let Some(failure) = shared.failure.take() {
        return Err(failure);
    }
    let (seconds, deliveries) =
        ((after.at - before.at).as_secs_f64(), (after.deliveries - before.deliveries) as f64);
    ensure!(deliveries > 0.0, "nothing was delivered");
    let mut tally = Tally::default();
    tallies.borrow().iter().for_each(|one| tally.merge(one));
    Ok(Fanned {
        messages_per_second: (after.complete - before.complete) as f64 / seconds,
        deliveries_per_second: deliveries / seconds,
        deliveries_per_cpu_second: deliveries / (after.cpu_us - before.cpu_us) * 1e6,
        p50_ms: shared.durations.quantile_ms(0.5),
        p99_ms: shared.durations.quantile_ms(0.99),
        tally,
    })
}

/// The counters at one moment.
struct Reading {
    at: Instant,
    cpu_us: f64,
    deliveries: u64,
    complete: u64,
}

impl Reading {
    fn take(pids: &[u32], shared: &RefCell<Shared>) -> Result<Self> {
        let cpu_us = pids.iter().map(|pid| process::cpu_us(*pid)).sum::<Result<f64>>()?;
        let shared = shared.borrow();
        Ok(Self { at: Instant::now(), cpu_us, deliveries: shared.deliveries, complete: shared.complete })
    }
}

async fn receive(
    mut session: Session,
    index: usize,
    shared: &RefCell<Shared>,
    tallies: &RefCell<Vec<Tally>>,
) -> Result<()> {
    loop {
        let now = std::cell::Cell::new(0);
        let step = session
            .next(false, |number, at| {
                // Read once a frame: when its first mark is seen.
                if now.get() == 0 {
                    now.set(now_us());
                }
                tallies.borrow_mut()[index].count(number);
                shared.borrow_mut().count(number, at, now.get());
            })
            .await?;
        if let Step::Closed(code, reason) = step {
            bail!("closed with {code} {reason}");
        }
    }
}

async fn pace(
    mut control: Control,
    pace: Pace,
    shared: Rc<RefCell<Shared>>,
    progress: Rc<Notify>,
) -> Result<()> {
    let mut granted = shared.borrow().complete;
    match pace {
        Pace::Window(window) => loop {
            let complete = shared.borrow().complete;
            let room = complete + window - granted;
            // In pieces of a quarter: one order for each message would be the load's own limit.
            if room >= window / 4 {
                control.publish(room).await?;
                granted += room;
            }
            progress.notified().await;
        },
        Pace::Rate(rate) => {
            let mut ticks = interval(Duration::from_secs_f64((1.0 / rate).max(0.002)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (started, mut sent) = (Instant::now(), 0);
            loop {
                ticks.tick().await;
                let due = (started.elapsed().as_secs_f64() * rate) as u64;
                if due > sent {
                    control.publish(due - sent).await?;
                    sent = due;
                }
            }
        }
    }
}

/// The control connection to an application.
pub(in crate::bench) struct Control {
    stream: BufReader<TcpStream>,
    /// What it had done when it was asked last.
    pub(in crate::bench) done: Done,
}

impl Control {
    /// Connects to an application of this machine.
    pub(in crate::bench) async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.context("connect to the application")?;
        stream.set_nodelay(true)?;
        let mut control = Self { stream: BufReader::new(stream), done: Done { number: 0, asks: 0 } };
        control.read().await?;
        Ok(control)
    }

    /// Lets it publish so many messages, asked for now.
    pub(in crate::bench) async fn publish(&mut self, count: u64) -> Result<()> {
        let order = format!("P {count} {}\n", now_us());
        self.stream.get_mut().write_all(order.as_bytes()).await.context("the application is gone")
    }

    /// What it has done by now.
    pub(in crate::bench) async fn ask(&mut self) -> Result<Done> {
        self.stream.get_mut().write_all(b"A\n").await?;
        self.read().await?;
        Ok(self.done)
    }

    async fn read(&mut self) -> Result<()> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        self.done = serde_json::from_str(&line).with_context(|| format!("the application says {line:?}"))?;
        Ok(())
    }
}

/// Opens idle connections and keeps them, heartbeats answered, until this process is killed; says `{"open": …}`.
pub(in crate::bench) async fn idle(door: Door, connections: usize) -> Result<()> {
    let sessions = open_all(&door, connections).await?;
    crate::bench::helper::say(&serde_json::json!({"open": sessions.len()}))?;
    LocalSet::new()
        .run_until(async move {
            let mut tasks = tokio::task::JoinSet::new();
            for mut session in sessions {
                tasks.spawn_local(async move {
                    loop {
                        if let Step::Closed(code, reason) = session.next(false, |_, _| ()).await? {
                            bail!("an idle connection was closed with {code} {reason}");
                        }
                    }
                });
            }
            let ended: Result<()> = tasks.join_next().await.context("no connection")??;
            ended
        })
        .await
}
