//! An attached application: what it says is checked and carried out.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use tokio::sync::mpsc;

use crate::channel::Draft;
use crate::clock::unix_ms;
use crate::codec::check;
use crate::commands::publish::check_keys;
use crate::commands::{self, subscribe};
use crate::desk::Serves;
use crate::keys::scoped;
use crate::lock::lock;
use crate::namespace::Namespace;
use crate::proto::{
    AttachRequest, AttachResponse, ChannelKind, CloseCode, Emit, Emitted, Error, ErrorCode, Hello, Revoke,
    Welcome, attach_request, attach_response,
};
use crate::shared::Shared;
use crate::{Closing, reply};

/// The version of the link's protocol.
const VERSION: u32 = 1;
/// Namespaces and methods of one application.
const NAMES: usize = 256;
/// Those of all applications since the start.
const KNOWN: usize = 4_096;

/// One stream of an application: what it says goes in here. Dropped: the stream is gone.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    id: u64,
    service: String,
    greeted: bool,
    gateway: String,
}

/// Why a link is closed: the status of its stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// What it said makes no sense: INVALID_ARGUMENT.
    #[error("{0}")]
    Invalid(String),
    /// It does not read what it is told: RESOURCE_EXHAUSTED.
    #[error("{0}")]
    Flood(String),
    /// It said goodbye and everything is answered: OK.
    #[error("the application has left")]
    Left,
}

impl Link {
    pub(crate) fn attach(shared: &Arc<Shared>, service: &str) -> (Self, mpsc::Receiver<AttachResponse>) {
        let settings = shared.settings();
        let id = shared.id();
        let (sender, receiver) = mpsc::channel(settings.asks_per_link + 4_096);
        shared.desk.attach(id, service, sender);
        let gateway = settings.gateway.clone();
        (Self { shared: shared.clone(), id, service: service.into(), greeted: false, gateway }, receiver)
    }

    /// Takes one message. An error: end the stream with it.
    pub fn receive(&mut self, message: AttachRequest) -> Result<(), LinkError> {
        if !self.shared.desk.has(self.id) {
            return Err(LinkError::Left);
        }
        let invalid = |message: &str| Err(LinkError::Invalid(message.into()));
        match message.kind {
            Some(attach_request::Kind::Hello(_)) if self.greeted => invalid("a second hello"),
            Some(attach_request::Kind::Hello(hello)) => self.hello(hello),
            _ if !self.greeted => invalid("the first message has to be a hello"),
            Some(attach_request::Kind::Answer(answer)) => {
                let shared = &self.shared;
                let done = shared.desk.answer(self.id, answer, &shared.settings(), &shared.counters);
                shared.done(done.map_err(LinkError::Invalid)?);
                Ok(())
            }
            Some(attach_request::Kind::Emit(emit)) => self.emit(emit),
            Some(attach_request::Kind::Revoke(revoke)) => self.revoke(&revoke),
            Some(attach_request::Kind::Acknowledge(acknowledge)) => {
                self.shared.desk.acknowledge(&self.service, acknowledge.sequence);
                Ok(())
            }
            Some(attach_request::Kind::Leaving(_)) => {
                self.shared.desk.leaving(self.id);
                Ok(())
            }
            None => invalid("a message of no known kind: hello, answer, emit, revoke, acknowledge, leaving"),
        }
    }

    fn tell(&self, kind: attach_response::Kind) -> Result<(), LinkError> {
        let told = self.shared.desk.tell(self.id, kind);
        if told {
            Ok(())
        } else {
            Err(LinkError::Flood("the application does not read what it is told".into()))
        }
    }

    fn hello(&mut self, hello: Hello) -> Result<(), LinkError> {
        let namespaces = self.check(&hello).map_err(LinkError::Invalid)?;
        let names: HashSet<Arc<str>> = namespaces.iter().map(|namespace| namespace.name.clone()).collect();
        {
            let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
            known.connects.insert(self.service.clone(), hello.connects);
            let new = names.iter().filter(|name| !known.namespaces.contains_key(*name)).count();
            if known.namespaces.len() + new > KNOWN || known.methods.len() + hello.methods.len() > KNOWN {
                return Err(LinkError::Invalid(format!(
                    "all applications together said more than {KNOWN} names"
                )));
            }
            for method in &hello.methods {
                if !known.methods.contains(method) {
                    known.methods.push(method.clone());
                }
            }
            for namespace in &namespaces {
                known.namespaces.insert(namespace.name.clone(), namespace.clone());
            }
        }
        namespaces.iter().for_each(|namespace| self.reconfigure(namespace));
        self.greeted = true;
        self.tell(attach_response::Kind::Welcome(Welcome {
            version: VERSION,
            gateway: self.gateway.clone(),
        }))?;
        let serves = Serves { namespaces: names, methods: hello.methods, connects: hello.connects };
        self.shared.desk.hello(self.id, serves, &self.shared.settings());
        Ok(())
    }

    fn check(&self, hello: &Hello) -> Result<Vec<Arc<Namespace>>, String> {
        if hello.version != VERSION {
            return Err(format!("version {}: only {VERSION} is spoken here", hello.version));
        }
        if hello.namespaces.len() > NAMES || hello.methods.len() > NAMES {
            return Err(format!("more than {NAMES} namespaces or methods"));
        }
        if let Some(method) = hello.methods.iter().find(|method| method.is_empty() || method.len() > 128) {
            return Err(format!("method {method:?}: 1 to 128 bytes are allowed"));
        }
        let read = |said| {
            let namespace = Namespace::read(&self.service, said)?;
            if self.shared.desk.is_served_by_another(&self.service, &namespace.name) {
                return Err(format!("namespace {}: another service serves it", namespace.name));
            }
            Ok(Arc::new(namespace))
        };
        hello.namespaces.iter().map(read).collect()
    }

    fn reconfigure(&self, namespace: &Arc<Namespace>) {
        for (channel, connection) in self.shared.channels.reconfigure(namespace) {
            let message = "the channel keeps something else from now on: subscribe again";
            let error = reply::later(ErrorCode::Unavailable, message, commands::spread(500));
            subscribe::end(&self.shared, &connection, &channel, error);
        }
    }

    fn emit(&self, emit: Emit) -> Result<(), LinkError> {
        let id = emit.id;
        let emitted = match self.publish(emit) {
            Ok((position, duplicate)) => Emitted { id, position, duplicate, error: None },
            Err(error) => Emitted { id, error: Some(error), ..Emitted::default() },
        };
        if id == 0 { Ok(()) } else { self.tell(attach_response::Kind::Emitted(emitted)) }
    }

    fn publish(&self, emit: Emit) -> Result<(Option<crate::proto::Position>, bool), Error> {
        let invalid = |message| reply::error(ErrorCode::Invalid, message);
        let namespace = commands::namespace(&self.shared, &emit.channel)?;
        if namespace.service != self.service {
            let message = format!("namespace {}: another service serves it", namespace.name);
            return Err(reply::error(ErrorCode::PermissionDenied, message));
        }
        check_keys(&namespace, &emit.key, &emit.latest_key).map_err(invalid)?;
        check(emit.data.as_ref()).map_err(invalid)?;
        if emit.removed && namespace.kind != ChannelKind::Latest {
            return Err(invalid(format!(
                "removed: the namespace {} is not one of latest values",
                namespace.name
            )));
        }
        if emit.removed == emit.data.as_ref().is_some_and(|data| data.kind.is_some()) {
            return Err(invalid("either data or removed is needed, not both".into()));
        }
        let key = if emit.key.is_empty() { String::new() } else { scoped("emit", "", &emit.key) };
        let draft = Draft {
            data: emit.data,
            latest_key: emit.latest_key,
            removed: emit.removed,
            sender: emit.sender,
            key,
            silent: false,
        };
        self.shared.channels.publish(&self.shared, &namespace, &emit.channel, draft)
    }

    /// Ends what fits, and remembers it for tickets. Looks at all sessions: revocations are rare.
    fn revoke(&self, revoke: &Revoke) -> Result<(), LinkError> {
        if revoke.subject.is_empty() && revoke.session.is_empty() && revoke.channel.is_empty() {
            return Err(LinkError::Invalid("revoke: one of subject, session, channel is needed".into()));
        }
        let shared = &self.shared;
        lock(&shared.revoked).add(revoke, unix_ms());
        let sessions: Vec<_> = lock(&shared.sessions).values().cloned().collect();
        for connection in sessions {
            let mut state = lock(&connection.state);
            let fits = |said: &str, own: &str| said.is_empty() || said == own;
            if !fits(&revoke.subject, &state.identity.subject) || !fits(&revoke.session, &state.session) {
                continue;
            }
            if revoke.channel.is_empty() {
                state.leave = true;
                drop(state);
                connection.close(Closing::new(CloseCode::Revoked, revoke.message.clone()), &shared.counters);
            } else {
                drop(state);
                let error = reply::error(ErrorCode::PermissionDenied, revoke.message.clone());
                subscribe::end(shared, &connection, &revoke.channel.as_str().into(), error);
                let state = &mut *lock(&connection.state);
                if state.ticket_stale {
                    connection.renew(state, shared);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let shared = &self.shared;
        let done = shared.desk.detach(self.id, &shared.settings(), &shared.counters);
        shared.done(done);
    }
}
