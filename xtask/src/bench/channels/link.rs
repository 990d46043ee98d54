//! An application on the gateway's link, as small as the contract allows: it says which namespaces it serves, answers what
//! it is asked by one function, and emits. The benchmarks' own application, and that of the fault tests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use prost::Message;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::wire::{Error, Payload, Position};

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field:meta])* $member:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, PartialEq, prost::Message)]
        #[allow(missing_docs, reason = "named as in the contract, which says what they are")]
        pub struct $name { $($(#[$field])* pub $member: $type,)* }
    )*};
}

messages! {
    /// What an application says: one of these.
    AttachRequest {
        #[prost(message, optional, tag = "1")] hello: Option<Hello>,
        #[prost(message, optional, tag = "2")] answer: Option<Answer>,
        #[prost(message, optional, tag = "3")] emit: Option<Emit>,
    }
    /// Who attaches, and what it serves.
    Hello {
        #[prost(uint32, tag = "1")] version: u32,
        #[prost(string, tag = "2")] instance: String,
        #[prost(message, repeated, tag = "3")] namespaces: Vec<Namespace>,
        #[prost(string, repeated, tag = "4")] methods: Vec<String>,
        #[prost(bool, tag = "5")] connects: bool,
    }
    /// The settings of a namespace.
    Namespace {
        #[prost(string, tag = "1")] name: String,
        #[prost(int32, tag = "2")] kind: i32,
        #[prost(uint32, tag = "3")] history: u32,
        #[prost(uint32, tag = "4")] history_seconds: u32,
        #[prost(int32, tag = "6")] subscribe: i32,
        #[prost(int32, tag = "7")] publish: i32,
        #[prost(uint32, tag = "9")] rate: u32,
        #[prost(uint32, tag = "10")] channel_rate: u32,
    }
    /// What a gateway says: one of these.
    AttachResponse {
        #[prost(message, optional, tag = "1")] welcome: Option<Welcome>,
        #[prost(message, optional, tag = "2")] ask: Option<Ask>,
        #[prost(message, optional, tag = "3")] emitted: Option<Emitted>,
    }
    /// The hello is accepted.
    Welcome {
        #[prost(uint32, tag = "1")] version: u32,
        #[prost(string, tag = "2")] gateway: String,
    }
    /// Asks for a decision: about one of the last four.
    Ask {
        #[prost(uint64, tag = "1")] id: u64,
        #[prost(uint32, tag = "2")] timeout_ms: u32,
        #[prost(message, optional, tag = "3")] actor: Option<Actor>,
        #[prost(bool, tag = "5")] again: bool,
        #[prost(message, optional, tag = "6")] connect: Option<super::wire::Empty>,
        #[prost(message, optional, tag = "7")] subscribe: Option<super::wire::Channel>,
        #[prost(message, optional, tag = "8")] publish: Option<AskPublish>,
        #[prost(message, optional, tag = "9")] call: Option<super::wire::Call>,
    }
    /// Whose doing it is.
    Actor {
        #[prost(string, tag = "1")] session: String,
        #[prost(string, tag = "2")] subject: String,
        #[prost(string, tag = "3")] kind: String,
    }
    /// A session publishes.
    AskPublish {
        #[prost(string, tag = "1")] channel: String,
        #[prost(message, optional, tag = "2")] data: Option<Payload>,
        #[prost(string, tag = "3")] key: String,
    }
    /// A decision: one of the last five.
    Answer {
        #[prost(uint64, tag = "1")] id: u64,
        #[prost(message, optional, tag = "2")] error: Option<Error>,
        #[prost(message, optional, tag = "3")] connect: Option<super::wire::Empty>,
        #[prost(message, optional, tag = "4")] subscribe: Option<super::wire::Empty>,
        #[prost(message, optional, tag = "5")] publish: Option<super::wire::Empty>,
        #[prost(message, optional, tag = "6")] call: Option<super::wire::CallResult>,
    }
    /// Publishes something by itself.
    Emit {
        #[prost(uint64, tag = "1")] id: u64,
        #[prost(string, tag = "2")] channel: String,
        #[prost(message, optional, tag = "3")] data: Option<Payload>,
        #[prost(string, tag = "4")] key: String,
    }
    /// The answer to an emit.
    Emitted {
        #[prost(uint64, tag = "1")] id: u64,
        #[prost(message, optional, tag = "2")] position: Option<Position>,
        #[prost(bool, tag = "3")] duplicate: bool,
        #[prost(message, optional, tag = "4")] error: Option<Error>,
    }
}

/// Namespace kinds and decisions, by the contract's numbers.
pub const STREAM: i32 = 2;
/// The application is asked.
pub const ASK: i32 = 1;
/// Everybody may, without asking.
pub const ALLOW: i32 = 2;

/// Emits on their way to the gateway; more wait.
const IN_FLIGHT: usize = 1024;

/// What the application decides; `Ok` is yes, and for a call the result.
pub type Decide = Arc<dyn Fn(&Ask) -> Result<Option<Payload>, Error> + Send + Sync>;

/// An attached application; dropped, its link is gone as if it was killed.
#[derive(Debug)]
pub struct App {
    requests: mpsc::Sender<Bytes>,
    counts: Arc<Counts>,
    emitted: watch::Receiver<u64>,
    task: JoinHandle<Result<()>>,
}

/// What happened on the link.
#[derive(Debug, Default)]
struct Counts {
    asks: AtomicU64,
    refused: AtomicU64,
}

impl App {
    /// Attaches to the internal listener at `address` as the service `name`; done when the gateway says welcome.
    pub async fn attach(
        address: &str,
        name: &str,
        secret: &str,
        hello: Hello,
        decide: Decide,
    ) -> Result<Self> {
        let channel = crate::grpc::connect(address).await?;
        let (requests, mut outgoing) = mpsc::channel::<Bytes>(IN_FLIGHT);
        let hello = AttachRequest { hello: Some(hello), ..AttachRequest::default() };
        requests.send(hello.encode_to_vec().into()).await?;
        let outgoing = futures_util::stream::poll_fn(move |context| outgoing.poll_recv(context));
        let mut request = tonic::Request::new(outgoing);
        let token = service_token(name, secret)?;
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await?;
        let path = "/hybrid.channels.v1.LinkService/Attach".parse()?;
        let response = client.streaming(request, path, crate::grpc::BytesCodec).await?;
        let mut incoming = response.into_inner();
        let first = incoming.message().await?.context("the link ended at once")?;
        ensure!(AttachResponse::decode(first)?.welcome.is_some(), "no welcome");
        let counts = Arc::new(Counts::default());
        let (emits, emitted) = watch::channel(0);
        let (answers, counted) = (requests.clone(), Arc::clone(&counts));
        let task = tokio::spawn(async move {
            while let Some(message) = incoming.message().await? {
                let message = AttachResponse::decode(message)?;
                if let Some(ask) = message.ask {
                    counted.asks.fetch_add(1, Ordering::Relaxed);
                    answers.send(answer(&ask, decide(&ask)).encode_to_vec().into()).await?;
                }
                if let Some(done) = message.emitted {
                    counted.refused.fetch_add(u64::from(done.error.is_some()), Ordering::Relaxed);
                    emits.send_replace(done.id);
                }
            }
            bail!("the gateway ended the link")
        });
        Ok(Self { requests, counts, emitted, task })
    }

    /// Emits `json` to `channel`. With an id other than 0 the gateway answers; [`App::wait_emitted`] waits for that.
    pub async fn emit(&self, id: u64, channel: &str, json: String, key: String) -> Result<()> {
        let emit = Emit { id, channel: channel.into(), data: Some(Payload { json }), key };
        let request = AttachRequest { emit: Some(emit), ..AttachRequest::default() };
        self.requests.send(request.encode_to_vec().into()).await.context("the link is gone")
    }

    /// Waits until the emit with this id, or a later one, is answered.
    pub async fn wait_emitted(&self, id: u64) -> Result<()> {
        self.emitted.clone().wait_for(|done| *done >= id).await.context("the link is gone")?;
        Ok(())
    }

    /// How many decisions it was asked for.
    pub fn asks(&self) -> u64 {
        self.counts.asks.load(Ordering::Relaxed)
    }

    /// How many emits were refused.
    pub fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// Waits until the link ends; why it did.
    pub async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(Ok(())) => "it ended".into(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(ask: &Ask, decision: Result<Option<Payload>, Error>) -> AttachRequest {
    let mut answer = Answer { id: ask.id, ..Answer::default() };
    match decision {
        Err(error) => answer.error = Some(error),
        Ok(_) if ask.connect.is_some() => answer.connect = Some(super::wire::Empty {}),
        Ok(_) if ask.subscribe.is_some() => answer.subscribe = Some(super::wire::Empty {}),
        Ok(_) if ask.publish.is_some() => answer.publish = Some(super::wire::Empty {}),
        Ok(data) => answer.call = Some(super::wire::CallResult { data }),
    }
    AttachRequest { answer: Some(answer), ..AttachRequest::default() }
}

/// A stream namespace that asks about everything, without limits that a benchmark would meet.
pub fn namespace(name: &str) -> Namespace {
    Namespace {
        name: name.into(),
        kind: STREAM,
        subscribe: ASK,
        publish: ASK,
        rate: 100_000,
        channel_rate: 1_000_000,
        ..Namespace::default()
    }
}

/// A hello for these namespaces.
pub fn hello(instance: &str, namespaces: Vec<Namespace>) -> Hello {
    Hello { version: 1, instance: instance.into(), namespaces, ..Hello::default() }
}

/// Says yes to everything.
pub fn yes() -> Decide {
    Arc::new(|_| Ok(None))
}

fn service_token(name: &str, secret: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let claims = serde_json::json!({"iss": name, "aud": "hybrid-gateway", "iat": now, "exp": now + 50});
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key)?)
}
