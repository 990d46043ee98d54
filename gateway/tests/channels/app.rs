//! An application at the other end of the link, and the gateway that it attaches to.

use crate::support::{self, AI_SECRET, Edge, WEB_SECRET, within};
use hub::proto::{
    Answer, Ask, AskConnect, AskPublish, AskSubscribe, AttachRequest, AttachResponse, CallResult,
    ChannelKind, ConnectAnswer, Decision, Error, ErrorCode, Hello, Namespace, Payload, PublishAnswer,
    SubscribeAnswer, answer, ask, attach_request, attach_response, link_service_client::LinkServiceClient,
};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Status, Streaming, transport::Channel};

/// A gateway with channels that `web` may attach to; `more` continues the table.
pub async fn edge(more: &str) -> Edge {
    Edge::with(&config(more), gateway::Options::default()).await
}

pub fn config(more: &str) -> String {
    let upstream = SocketAddr::from(([127, 0, 0, 1], 9));
    let channels = format!(
        "[upstreams.ai]\nprotocol = \"grpc\"\naddress = \"127.0.0.1:9\"\nsecret = \"{AI_SECRET}\"\n\
         [deadlines]\ndrain = \"4s\"\n[channels]\nservices = [\"web\"]\n{more}"
    );
    support::base(upstream, &channels)
}

/// A service's token.
pub fn service_token(name: &str, secret: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": name, "aud": "hybrid-gateway", "iat": now, "exp": now + 30});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// What an application serves here: one namespace of each kind, and one where everything is asked.
pub fn hello() -> Hello {
    let namespace = |name: &str, kind: ChannelKind, decision: Decision| Namespace {
        name: name.into(),
        kind: kind.into(),
        subscribe: decision.into(),
        publish: decision.into(),
        ..Namespace::default()
    };
    Hello {
        version: 1,
        instance: "test".into(),
        namespaces: vec![
            Namespace { presence: true, ..namespace("chat", ChannelKind::Stream, Decision::Ask) },
            namespace("open", ChannelKind::Stream, Decision::Allow),
            namespace("live", ChannelKind::Live, Decision::Allow),
            namespace("board", ChannelKind::Latest, Decision::Allow),
        ],
        methods: vec!["test".into()],
        connects: true,
    }
}

pub type Messages = Streaming<AttachResponse>;

/// Opens the stream by itself; the sender ends it.
pub async fn open(
    edge: &Edge,
    token: Option<&str>,
) -> Result<(mpsc::Sender<AttachRequest>, Messages), Status> {
    open_at(edge.at.internal, token).await
}

pub async fn open_at(
    at: SocketAddr,
    token: Option<&str>,
) -> Result<(mpsc::Sender<AttachRequest>, Messages), Status> {
    let channel = Channel::from_shared(format!("http://{at}")).unwrap().connect_lazy();
    let (sender, receiver) = mpsc::channel(1_000);
    let said = futures_util::stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    });
    let mut request = Request::new(said);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let opened = within(LinkServiceClient::new(channel).attach(request)).await?;
    Ok((sender, opened.into_inner()))
}

pub fn message(kind: attach_request::Kind) -> AttachRequest {
    AttachRequest { kind: Some(kind) }
}

/// An attached application.
pub struct App {
    sender: mpsc::Sender<AttachRequest>,
    asks: Arc<Mutex<Vec<Ask>>>,
    others: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<AttachResponse>>>,
    task: AbortOnDropHandle<Status>,
}

impl App {
    /// Attaches, and answers all asks by [`decide`].
    pub async fn attach(edge: &Edge) -> Self {
        Self::attach_at(edge.at.internal).await
    }

    /// The same, to the internal listener at this address.
    pub async fn attach_at(at: SocketAddr) -> Self {
        Self::with_at(at, hello(), |ask| Some(decide(ask))).await
    }

    /// Attaches; where `decide` says nothing, the test answers.
    pub async fn with(
        edge: &Edge,
        hello: Hello,
        decide: impl Fn(&Ask) -> Option<answer::Kind> + Send + 'static,
    ) -> Self {
        Self::with_at(edge.at.internal, hello, decide).await
    }

    async fn with_at(
        at: SocketAddr,
        hello: Hello,
        decide: impl Fn(&Ask) -> Option<answer::Kind> + Send + 'static,
    ) -> Self {
        let token = service_token("web", WEB_SECRET);
        let (sender, mut messages) = open_at(at, Some(&token)).await.unwrap();
        sender.send(message(attach_request::Kind::Hello(hello))).await.unwrap();
        let welcome = within(messages.message()).await.unwrap().unwrap();
        assert!(matches!(welcome.kind, Some(attach_response::Kind::Welcome(_))), "{welcome:?}");
        let (other, others) = mpsc::unbounded_channel();
        let (asks, answers) = (Arc::<Mutex<Vec<Ask>>>::default(), sender.clone());
        let seen = Arc::clone(&asks);
        let task: JoinHandle<Status> = tokio::spawn(async move {
            loop {
                let message = match messages.message().await {
                    Ok(Some(message)) => message,
                    Ok(None) => return Status::ok(""),
                    Err(status) => return status,
                };
                match message.kind {
                    Some(attach_response::Kind::Ask(ask)) => {
                        let decided = decide(&ask);
                        let id = ask.id;
                        seen.lock().unwrap().push(ask);
                        if let Some(kind) = decided {
                            let _ = answers.send(answered(id, kind)).await;
                        }
                    }
                    _ => drop(other.send(message)),
                }
            }
        });
        Self {
            sender,
            asks,
            others: Arc::new(tokio::sync::Mutex::new(others)),
            task: AbortOnDropHandle::new(task),
        }
    }

    pub async fn say(&self, kind: attach_request::Kind) {
        within(self.sender.send(message(kind))).await.unwrap();
    }

    pub async fn answer(&self, id: u64, kind: answer::Kind) {
        within(self.sender.send(answered(id, kind))).await.unwrap();
    }

    /// What was asked so far.
    pub fn asks(&self) -> Vec<Ask> {
        self.asks.lock().unwrap().clone()
    }

    /// Waits for an ask that fits, and returns it.
    pub async fn asked(&self, fits: impl Fn(&Ask) -> bool) -> Ask {
        let found = || self.asks().into_iter().find(|ask| fits(ask));
        support::until(|| found().is_some()).await;
        found().unwrap()
    }

    /// The next message that is no ask.
    pub async fn other(&self) -> attach_response::Kind {
        let mut others = self.others.lock().await;
        within(others.recv()).await.unwrap().kind.unwrap()
    }

    /// How the stream ended.
    pub async fn ended(self) -> Status {
        within(self.task).await.unwrap()
    }
}

fn answered(id: u64, kind: answer::Kind) -> AttachRequest {
    message(attach_request::Kind::Answer(Answer { id, kind: Some(kind) }))
}

pub fn refused(code: ErrorCode, message: &str) -> answer::Kind {
    answer::Kind::Error(Error {
        code: code.into(),
        message: message.into(),
        reason: "because".into(),
        ..Error::default()
    })
}

/// Says yes, but to those whose data is "no" and to channels that are private.
pub fn decide(ask: &Ask) -> answer::Kind {
    let no = Some(Payload::json("\"no\""));
    match ask.kind.as_ref().unwrap() {
        ask::Kind::Connect(AskConnect { data }) if *data == no => {
            refused(ErrorCode::PermissionDenied, "not you")
        }
        ask::Kind::Connect(_) => answer::Kind::Connect(ConnectAnswer {
            data: Some(Payload::json(json!({"subject": ask.actor.as_ref().unwrap().subject}).to_string())),
            ..ConnectAnswer::default()
        }),
        ask::Kind::Subscribe(AskSubscribe { channel, .. }) if channel.ends_with("private") => {
            refused(ErrorCode::PermissionDenied, "a private room")
        }
        ask::Kind::Subscribe(_) => answer::Kind::Subscribe(SubscribeAnswer::default()),
        ask::Kind::Publish(AskPublish { data, .. }) if *data == no => {
            refused(ErrorCode::Invalid, "not like this")
        }
        ask::Kind::Publish(_) => answer::Kind::Publish(PublishAnswer::default()),
        ask::Kind::Call(call) => answer::Kind::Call(CallResult { data: call.data.clone() }),
    }
}
