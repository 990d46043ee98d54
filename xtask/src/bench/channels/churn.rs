//! The load of `jitter` and `storm`: clients that lose their connection and come back to where they were.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Mutex,
    task::{JoinHandle, LocalSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at},
};

use super::{
    load::{Control, open_all},
    marks::{Durations, Tally, now_us},
    session::{Door, Session, Step},
};

/// For what was missed to come, at the end.
const SETTLE: Duration = Duration::from_secs(15);

/// Clients that are away for a while, again and again, at different times.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Jitter {
    /// Where they go.
    pub door: Door,
    /// The application's control port.
    pub control: u16,
    /// How many.
    pub clients: usize,
    /// Messages each second.
    pub rate: f64,
    /// For so long.
    pub seconds: f64,
    /// From one loss to the next, in seconds.
    pub every: f64,
    /// For so long they are away, in seconds.
    pub away: f64,
}

/// What became of them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Jittered {
    /// Messages.
    pub published: u64,
    /// Of all clients.
    pub tally: Tally,
    /// How often a client came back.
    pub returns: u64,
    /// How often it was told that it could not go on where it was.
    pub unrecovered: u64,
    /// Connections that ended although nobody dropped them, and attempts that failed.
    pub broken: u64,
    /// From the attempt to connect to the last message that was missed.
    pub replay_p50_ms: f64,
    /// The same.
    pub replay_p99_ms: f64,
}

/// Clients that all lose their connections at once, beside others that do not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Storm {
    /// Where they go.
    pub door: Door,
    /// The application's control port.
    pub control: u16,
    /// How many come back.
    pub clients: usize,
    /// Over so many seconds.
    pub within: f64,
    /// How many stay.
    pub others: usize,
    /// Messages each second.
    pub rate: f64,
    /// How long the others are measured before, in seconds.
    pub before: f64,
}

/// What became of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Stormed {
    /// Attempts that failed.
    pub refused: u64,
    /// Who came back but could not go on where it was.
    pub unrecovered: u64,
    /// Decisions that the application was asked for meanwhile.
    pub asks: u64,
    /// From the first attempt to the last one's success.
    pub seconds: f64,
    /// The others' deliveries before.
    pub before_p99_ms: f64,
    /// And during the storm.
    pub during_p99_ms: f64,
    /// Of everybody: what was missing or came twice.
    pub tally: Tally,
}

/// What the clients of a run share.
#[derive(Default)]
struct Shared {
    /// The newest message that was ordered.
    ordered: Cell<u64>,
    returns: Cell<u64>,
    unrecovered: Cell<u64>,
    broken: Cell<u64>,
    replays: RefCell<Durations>,
    deliveries: RefCell<Durations>,
}

fn add(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// One client with what it got.
struct Client {
    door: Door,
    session: Option<Session>,
    place: super::session::Place,
    tally: Tally,
    shared: Rc<Shared>,
}

impl Client {
    fn new(door: &Door, session: Session, first: u64, shared: &Rc<Shared>) -> Self {
        let (place, tally) =
            (session.place.clone(), Tally { newest: first, from_start: true, ..Tally::default() });
        Self { door: door.clone(), session: Some(session), place, tally, shared: Rc::clone(shared) }
    }

    /// Receives until the time has come, or message `enough` has; false: the connection broke.
    async fn receive(&mut self, until: Instant, enough: u64) -> bool {
        while self.tally.newest < enough {
            let Some(session) = &mut self.session else { return false };
            let (tally, shared) = (&mut self.tally, &self.shared);
            let step = session.next(true, |number, at| {
                tally.count(number);
                shared.deliveries.borrow_mut().add(now_us().saturating_sub(at));
            });
            match timeout_at(until, step).await {
                Err(_) => return true,
                Ok(Ok(Step::Messages(_))) => {}
                Ok(other) => {
                    eprintln!("a connection broke: {other:?}");
                    add(&self.shared.broken);
                    self.drop_connection();
                    return false;
                }
            }
        }
        true
    }

    /// Loses the connection as a network does, and remembers where it was.
    fn drop_connection(&mut self) {
        if let Some(session) = self.session.take() {
            self.place = session.place.clone();
            session.socket.reset();
        }
    }

    /// Comes back to where it was.
    async fn come_back(&mut self) -> Result<()> {
        // A protocol whose offsets come with messages has nowhere to go on from before the first one.
        let place = (!self.place.offset.is_empty()).then_some(&self.place);
        let session = Session::open(&self.door, place).await?;
        if !session.recovered {
            add(&self.shared.unrecovered);
        }
        add(&self.shared.returns);
        self.session = Some(session);
        Ok(())
    }

    /// Comes back, and measures how long it takes until what was missed is there.
    async fn come_back_and_replay(&mut self) {
        let (started, missed) = (Instant::now(), self.shared.ordered.get());
        while let Err(error) = self.come_back().await {
            eprintln!("cannot come back: {error:#}");
            add(&self.shared.broken);
            sleep(Duration::from_millis(100)).await;
        }
        if self.receive(started + SETTLE, missed).await {
            self.shared.replays.borrow_mut().add(started.elapsed().as_micros() as u64);
        }
    }
}

/// Publishes at a steady rate until it is aborted.
fn publish(control: Rc<Mutex<Control>>, rate: f64, shared: Rc<Shared>) -> JoinHandle<Result<()>> {
    tokio::task::spawn_local(async move {
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            control.lock().await.publish(1).await?;
            add(&shared.ordered);
        }
    })
}

/// Lets clients lose their connections one after the other, and come back.
pub async fn jitter(job: Jitter) -> Result<Jittered> {
    LocalSet::new().run_until(jittered(job)).await
}

async fn jittered(job: Jitter) -> Result<Jittered> {
    let control = Control::connect(job.control).await?;
    let first = control.done.number;
    let shared = Rc::new(Shared::default());
    shared.ordered.set(first);
    let sessions = open_all(&job.door, job.clients).await?;
    let publishing = publish(Rc::new(Mutex::new(control)), job.rate, Rc::clone(&shared));
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(job.seconds);
    let lives = sessions.into_iter().enumerate().map(|(index, session)| {
        let mut client = Client::new(&job.door, session, first, &shared);
        let phase = Duration::from_secs_f64(job.every * index as f64 / job.clients as f64);
        let (every, away) = (Duration::from_secs_f64(job.every), Duration::from_secs_f64(job.away));
        tokio::task::spawn_local(async move {
            let mut next = started + phase;
            while next < end {
                if !client.receive(next, u64::MAX).await {
                    client.come_back_and_replay().await;
                    continue;
                }
                client.drop_connection();
                sleep_until(next + away).await;
                client.come_back_and_replay().await;
                next += every;
            }
            client.receive(end, u64::MAX).await;
            client
        })
    });
    let lives: Vec<_> = lives.collect();
    sleep_until(end).await;
    ensure!(!publishing.is_finished(), "the application is gone");
    publishing.abort();
    let last = shared.ordered.get();
    let tally = settle(lives, last).await?;
    let (replays, count) = (shared.replays.borrow(), |counter: &Cell<u64>| counter.get());
    Ok(Jittered {
        published: last - first,
        tally,
        returns: count(&shared.returns),
        unrecovered: count(&shared.unrecovered),
        broken: count(&shared.broken),
        replay_p50_ms: replays.quantile_ms(0.5),
        replay_p99_ms: replays.quantile_ms(0.99),
    })
}

/// Waits until everybody has the last message, and sums up; one that never came is missing.
async fn settle(lives: Vec<JoinHandle<Client>>, last: u64) -> Result<Tally> {
    let until = Instant::now() + SETTLE;
    let finishing = lives.into_iter().map(async |life| {
        let mut client = life.await.context("a client")?;
        while !client.receive(until, last).await && client.come_back().await.is_ok() {}
        client.tally.missing += last.saturating_sub(client.tally.newest);
        Ok(client.tally)
    });
    let mut tally = Tally::default();
    for one in join_all(finishing).await {
        tally.merge(&one.map_err(|error: anyhow::Error| error)?);
    }
    Ok(tally)
}

/// Lets clients lose their connections all at once, and come back.
pub async fn storm(job: Storm) -> Result<Stormed> {
    LocalSet::new().run_until(stormed(job)).await
}

async fn stormed(job: Storm) -> Result<Stormed> {
    let control = Control::connect(job.control).await?;
    let first = control.done.number;
    let (calm, wild) = (Rc::new(Shared::default()), Rc::new(Shared::default()));
    calm.ordered.set(first);
    let others = open_all(&job.door, job.others).await?;
    let stormers = open_all(&job.door, job.clients).await?;
    let control = Rc::new(Mutex::new(control));
    let publishing = publish(Rc::clone(&control), job.rate, Rc::clone(&calm));
    let client = |session, shared| Client::new(&job.door, session, first, shared);
    let far = Instant::now() + Duration::from_secs(600);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let spawn = |mut client: Client| {
        let mut stopped = stopped.clone();
        tokio::task::spawn_local(async move {
            tokio::select! {
                _ = client.receive(far, u64::MAX) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            client
        })
    };
    let others: Vec<_> = others.into_iter().map(|session| spawn(client(session, &calm))).collect();
    // Those that will be dropped receive as well, until then.
    let dropping = Instant::now() + Duration::from_secs_f64(job.before);
    let stormers = stormers.into_iter().map(|session| {
        let mut client = client(session, &wild);
        tokio::task::spawn_local(async move {
            client.receive(dropping, u64::MAX).await;
            client
        })
    });
    let stormers = join_all(stormers.collect::<Vec<_>>()).await;
    let before_p99_ms = calm.deliveries.borrow().quantile_ms(0.99);
    let asks = control.lock().await.ask().await?.asks;
    let mut stormers = stormers.into_iter().collect::<Result<Vec<_>, _>>()?;
    stormers.iter_mut().for_each(Client::drop_connection);
    calm.deliveries.borrow_mut().clear();
    let started = Instant::now();
    let count = stormers.len();
    let returning = stormers.into_iter().enumerate().map(|(index, mut client)| {
        let at = started + Duration::from_secs_f64(job.within * index as f64 / count as f64);
        tokio::task::spawn_local(async move {
            sleep_until(at).await;
            while let Err(error) = client.come_back().await {
                eprintln!("cannot come back: {error:#}");
                add(&client.shared.broken);
                sleep(Duration::from_millis(100)).await;
            }
            client
        })
    });
    let returned = join_all(returning.collect::<Vec<_>>()).await;
    let seconds = started.elapsed().as_secs_f64();
    let during_p99_ms = calm.deliveries.borrow().quantile_ms(0.99);
    publishing.abort();
    stop.send_replace(true);
    let last = calm.ordered.get();
    let mut lives = others;
    for client in returned {
        lives.push(spawn(client?));
    }
    let tally = settle(lives, last).await?;
    let after = control.lock().await.ask().await?.asks;
    Ok(Stormed {
        refused: wild.broken.get() + calm.broken.get(),
        unrecovered: wild.unrecovered.get(),
        asks: after - asks,
        seconds,
        before_p99_ms,
        during_p99_ms,
        tally,
    })
}
