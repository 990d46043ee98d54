//! The application is killed and started again while people write and others read: no socket may be lost, and whatever was
//! acknowledged must be in the application's own history. Used by the benchmark `deploy` and by the black-box tests.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    user::{Failure, User},
    wire::{Ask, Said, Subscribe, Subscribed},
};

/// A page of history.
const PAGE: u64 = 200;
/// For the last publications to come to those who read.
const SETTLE: Duration = Duration::from_secs(20);

/// Who writes and who reads.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// The gateway's public address.
    pub address: String,
    /// The room, without its namespace.
    pub room: String,
    /// Tokens of those who write; the first one makes the room.
    pub writers: Vec<String>,
    /// How many read.
    pub readers: usize,
}

/// What became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Publishes that were acknowledged.
    pub acknowledged: u64,
    /// Of them, those that history does not have exactly once.
    pub lost: u64,
    /// Of them, those that a reader did not get, summed over all readers.
    pub unseen: u64,
    /// Connections that ended.
    pub sockets_lost: u64,
    /// Publishes that had to be sent again.
    pub retries: u64,
}

/// A writer's connection, and what was acknowledged to it.
type Writer = (User, HashSet<String>);

/// A crowd at work.
#[derive(Debug)]
pub struct Work {
    crowd: Crowd,
    stop: Arc<AtomicBool>,
    retries: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Result<Writer>>>,
    readers: Vec<JoinHandle<Result<Reader>>>,
    finish: tokio::sync::watch::Sender<Option<Arc<HashSet<String>>>>,
}

#[derive(Debug)]
struct Reader {
    seen: HashSet<String>,
    lost: bool,
}

impl Work {
    /// Connects everybody and begins.
    pub async fn begin(crowd: Crowd) -> Result<Self> {
        let channel = format!("chat:{}", crowd.room);
        let mut users = Vec::new();
        for token in &crowd.writers {
            users.push(arrived(&crowd.address, token).await?);
        }
        patient(&mut users[0], "chat.create", &json!({"room": crowd.room})).await?;
        let (stop, retries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (finish, finished) = tokio::sync::watch::channel(None);
        let mut readers = Vec::new();
        for index in 0..crowd.readers {
            let token = &crowd.writers[index % crowd.writers.len()];
            let mut user = User::with_token(&crowd.address, token).await?;
            let subscribed = subscribe(&mut user, &channel).await?;
            let offset = subscribed.position.unwrap_or_default().offset;
            readers.push(tokio::spawn(read(user, offset, finished.clone())));
        }
        let writers = users.into_iter().enumerate().map(|(index, user)| {
            tokio::spawn(write(user, channel.clone(), index, Arc::clone(&stop), Arc::clone(&retries)))
        });
        let writers = writers.collect();
        Ok(Self { crowd, stop, retries, writers, readers, finish })
    }

    /// Stops those who write and reads everything back.
    pub async fn end(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut acknowledged, mut outcome, mut users) = (HashSet::new(), Outcome::default(), Vec::new());
        for writer in self.writers {
            let (user, own) = writer.await??;
            acknowledged.extend(own);
            users.push(user);
        }
        let history = history(&mut users[0], &self.crowd.room).await?;
        let acknowledged = Arc::new(acknowledged);
        self.finish.send_replace(Some(Arc::clone(&acknowledged)));
        for reader in self.readers {
            let reader = reader.await??;
            outcome.sockets_lost += u64::from(reader.lost);
            outcome.unseen += acknowledged.difference(&reader.seen).count() as u64;
        }
        outcome.acknowledged = acknowledged.len() as u64;
        outcome.lost = acknowledged.iter().filter(|text| history.get(*text) != Some(&1)).count() as u64;
        outcome.retries = self.retries.load(Ordering::Relaxed);
        Ok(outcome)
    }
}

/// Subscribes from now on.
pub async fn subscribe(user: &mut User, channel: &str) -> Result<Subscribed> {
    let subscribe = Subscribe { channel: channel.into(), from: None };
    match user.ask(Ask::Subscribe(subscribe)).await? {
        Said::Subscribed(subscribed) => Ok(subscribed),
        other => bail!("{other:?} replies to a subscribe"),
    }
}

/// Publishes until told to stop, with the same key until it is acknowledged. The connection must last.
async fn write(
    mut user: User,
    channel: String,
    index: usize,
    stop: Arc<AtomicBool>,
    retries: Arc<AtomicU64>,
) -> Result<Writer> {
    let mut acknowledged = HashSet::new();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let text = format!("writer {index} says {number}");
        let (data, key) = (json!({"type": "message", "text": text}), format!("{index}-{number}"));
        loop {
            match user.publish(&channel, &data, &key).await {
                Ok(_) => break,
                Err(Failure::Refused(error)) if error.retry_after_ms > 0 => {
                    retries.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(error.retry_after_ms.min(200).into())).await;
                }
                Err(other) => return Err(other).context("a publish"),
            }
        }
        acknowledged.insert(text);
        // The pace of a person who writes fast, below what one connection may.
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    Ok((user, acknowledged))
}

/// Reads until it has everything that was acknowledged; checks the chain of offsets.
async fn read(
    mut user: User,
    mut offset: u64,
    mut finish: tokio::sync::watch::Receiver<Option<Arc<HashSet<String>>>>,
) -> Result<Reader> {
    let mut reader = Reader { seen: HashSet::new(), lost: false };
    loop {
        let wanted = finish.borrow_and_update().clone();
        if wanted.as_ref().is_some_and(|wanted| wanted.is_subset(&reader.seen)) {
            return Ok(reader);
        }
        let said = tokio::select! {
            said = user.push() => said,
            changed = finish.changed(), if wanted.is_none() => {
                changed.context("the crowd is gone")?;
                continue;
            }
            () = tokio::time::sleep(SETTLE), if wanted.is_some() => return Ok(reader),
        };
        match said {
            Ok(Said::Publications(pushed)) => {
                for publication in pushed.publications {
                    let previous = publication.previous;
                    ensure!(previous == offset, "{} follows {previous}, not {offset}", publication.offset);
                    offset = publication.offset;
                    let said = publication.data.map_or(Value::Null, |data| data.value());
                    reader.seen.extend(said["text"].as_str().map(str::to_owned));
                }
            }
            Ok(Said::Closing(_)) | Err(Failure::Closed(..) | Failure::Broken(_)) => {
                reader.lost = true;
                return Ok(reader);
            }
            Ok(_) => {}
            Err(refused) => return Err(refused).context("a reader"),
        }
    }
}

/// Connects, however long the application, which may have just been started, is away.
async fn arrived(address: &str, token: &str) -> Result<User> {
    loop {
        let connected = User::with_token(address, token).await;
        if let Some(user) = later(connected).await? {
            return Ok(user);
        }
    }
}

/// A call, made again as long as the application is away.
async fn patient(user: &mut User, method: &str, data: &Value) -> Result<Value> {
    loop {
        let answered = user.call(method, data).await;
        if let Some(answer) = later(answered).await? {
            return Ok(answer);
        }
    }
}

/// None, after a while, for what is to be tried again.
async fn later<T>(outcome: Result<T, Failure>) -> Result<Option<T>> {
    match outcome {
        Err(Failure::Refused(error)) if error.retry_after_ms > 0 => {
            tokio::time::sleep(Duration::from_millis(error.retry_after_ms.into())).await;
            Ok(None)
        }
        outcome => Ok(Some(outcome?)),
    }
}

/// How often each text is in the application's history.
async fn history(user: &mut User, room: &str) -> Result<HashMap<String, u64>> {
    let (mut texts, mut after) = (HashMap::new(), 0);
    loop {
        let page = json!({"room": room, "after": after, "limit": PAGE});
        let page = timeout(Duration::from_secs(10), patient(user, "chat.history", &page)).await??;
        for message in page["messages"].as_array().context("messages")? {
            after = message["id"].as_u64().context("an id")?;
            let text = message["text"].as_str().unwrap_or_default().to_owned();
            *texts.entry(text).or_default() += 1;
        }
        if page["more"] != true {
            return Ok(texts);
        }
    }
}
