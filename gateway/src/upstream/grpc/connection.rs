//! One HTTP/2 connection to a gRPC upstream, with its settings and the count of what runs on it.
//!
//! On h2 itself: a client on top of it gives a stream's window back as soon as data is looked at, and passes each
//! call through a queue and a task of its own (docs/decisions/0009).

use super::keepalive::Keepalive;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};
use tokio::net::TcpStream;

/// A stalled reader holds back at most this much of its own stream. Small: unread messages cost memory each, and the
/// services are near.
const STREAM_WINDOW: u32 = 16 << 10;
/// All streams of a connection together can stall without touching the others' share.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// h2's budget for small unread frames, which it takes to cost 256 bytes each however small they are: were it used up
/// by readers who stall, the connection would end for all. Enough for full windows of one-byte frames.
const SMALL_FRAMES: usize = MAX_STREAMS * (STREAM_WINDOW as usize) * 256;
/// A connection's state is behind one lock, so it pays to open another before the peer's own bound is reached.
const MAX_STREAMS: usize = 100;

pub(super) struct Connection {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
}

/// What the connection's task and its calls know of each other.
struct State {
    in_flight: AtomicUsize,
    /// What the peer's settings allow, as the connection's task last saw them.
    max_streams: AtomicUsize,
    /// It takes no further call.
    closed: AtomicBool,
}

/// How a connection ends that has not broken.
enum Ended {
    Closed,
    /// The peer does not answer pings.
    Silent,
}

impl Connection {
    pub(super) async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(SMALL_FRAMES)
            .enable_push(false)
            .handshake(stream);
        let (sender, mut connection) = handshake.await.map_err(io::Error::other)?;
        let state = Arc::new(State {
            in_flight: AtomicUsize::new(0),
            max_streams: AtomicUsize::new(MAX_STREAMS),
            closed: AtomicBool::new(false),
        });
        let (address, shared) = (address.to_owned(), Arc::clone(&state));
        tokio::spawn(async move {
            let mut keepalive = Keepalive::new(connection.ping_pong());
            let ended = poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                shared.max_streams.store(connection.max_concurrent_send_streams(), Relaxed);
                if polled.is_pending()
                    && keepalive.poll_dead(cx, shared.in_flight.load(Relaxed) > 0).is_ready()
                {
                    return Poll::Ready(Ok(Ended::Silent));
                }
                polled.map_ok(|()| Ended::Closed)
            });
            let ended: Result<Ended, h2::Error> = ended.await;
            shared.closed.store(true, Relaxed);
            match ended {
                Ok(Ended::Closed) => {}
                Ok(Ended::Silent) => tracing::warn!(address, "a gRPC upstream leaves pings unanswered"),
                Err(error) => tracing::debug!(address, %error, "connection to a gRPC upstream ended"),
            }
        });
        Ok(Self { sender, state })
    }

    /// A sender that takes a call now; an error says that this connection takes none any more.
    pub(super) async fn sender(&self) -> Result<SendRequest<Bytes>, h2::Error> {
        let ready = self.sender.clone().ready().await;
        if ready.is_err() {
            self.state.closed.store(true, Relaxed);
        }
        ready
    }

    pub(super) fn is_live(&self) -> bool {
        !self.state.closed.load(Relaxed)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state.in_flight.load(Relaxed)
    }

    /// Whether one more call fits under the peer's MAX_CONCURRENT_STREAMS: what exceeds it would wait unseen.
    pub(super) fn has_room(&self) -> bool {
        let in_flight = self.in_flight();
        in_flight == 0 || in_flight < MAX_STREAMS.min(self.state.max_streams.load(Relaxed))
    }

    pub(super) fn begin(&self) {
        self.state.in_flight.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self) {
        self.state.in_flight.fetch_sub(1, Relaxed);
    }
}
