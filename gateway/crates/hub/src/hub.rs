//! The whole: what connections, applications and plain requests reach.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::proto::{self, AttachResponse, ErrorCode, server_message};
use crate::{Authenticate, Client, Closing, Identity, Link, Outbox, Settings, Stats, Wire};

/// All channels, sessions and links of a gateway. Clones are the same hub.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

struct Shared {
    _authenticate: Arc<dyn Authenticate>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Hub")
    }
}

impl Hub {
    /// A hub whose tickets are signed by a key derived from `ticket_key`: gateways with the same key resume each other's
    /// sessions. Starts its timers: call it inside a runtime. They end with the last clone.
    pub fn new(settings: Settings, ticket_key: &[u8], authenticate: Arc<dyn Authenticate>) -> Self {
        let _ = (settings, ticket_key);
        Self(Arc::new(Shared { _authenticate: authenticate }))
    }

    /// A reload: these limits count from now on.
    pub fn configure(&self, settings: Settings) {
        let _ = (settings, &self.0);
    }

    /// A transport connected; `identity` is that of its handshake. An error: there are too many, or the hub drains.
    pub fn open(&self, identity: Identity, wire: Wire) -> Result<(Client, Outbox), Closing> {
        Ok((Client::new(self.clone(), identity, wire), Outbox::new()))
    }

    /// An application attached; `service` is its verified name. The receiver ends when the hub ends the link.
    pub fn attach(&self, service: &str) -> (Link, mpsc::Receiver<AttachResponse>) {
        let (_, messages) = mpsc::channel(1);
        (Link::new(self.clone(), service), messages)
    }

    /// One publish, history query, presence query or call of a caller without a session; the answer may be `Kind::Error`.
    pub async fn once(
        &self,
        identity: Identity,
        command: proto::command::Kind,
        traceparent: &str,
    ) -> server_message::Kind {
        let _ = (identity, command, traceparent);
        let error = proto::Error {
            code: ErrorCode::Internal.into(),
            message: "not built yet".into(),
            ..proto::Error::default()
        };
        server_message::Kind::Error(error)
    }

    /// Refuses new connections, and tells the open ones to reconnect, spread over `within`.
    pub fn drain(&self, within: Duration) {
        let _ = within;
    }

    /// Where the hub stands.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}
