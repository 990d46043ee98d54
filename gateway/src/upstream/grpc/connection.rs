//! One HTTP/2 connection to a gRPC upstream, with its settings and the count of what runs on it.

use super::abandon::Tasks;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::net::TcpStream;

/// A stalled reader holds back at most this much of its own stream. Small: unread messages cost memory each, and the
/// services are near.
const STREAM_WINDOW: u32 = 16 << 10;
/// All streams of a connection together can stall without touching the others' share. Far larger than their sum,
/// because half of it is also h2's budget for small unread frames, which cost it 256 bytes each however small they
/// are: were it used up by readers who stall, the connection would end for all.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// A connection's state is behind one lock, so it pays to open another before the peer's own bound is reached.
const MAX_STREAMS: usize = 100;
/// Servers answer more frequent pings with GOAWAY; the services allow this rate
/// (`grpc.http2.min_ping_interval_without_data_ms`). Never while idle: gRPC servers count that as abuse.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Connection {
    sender: SendRequest<tonic::body::Body>,
    in_flight: AtomicUsize,
    /// What the peer's settings allow, as the connection's task last saw them.
    max_streams: Arc<AtomicUsize>,
}

impl Connection {
    pub(super) async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, mut connection) = Builder::new(Tasks)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let max_streams = Arc::new(AtomicUsize::new(MAX_STREAMS));
        let (address, announced) = (address.to_owned(), Arc::clone(&max_streams));
        tokio::spawn(async move {
            let ended = poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                announced.store(connection.current_max_send_streams(), Relaxed);
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(address, %error, "connection to a gRPC upstream ended");
            }
        });
        Ok(Self { sender, in_flight: AtomicUsize::new(0), max_streams })
    }

    pub(super) fn sender(&self) -> SendRequest<tonic::body::Body> {
        self.sender.clone()
    }

    pub(super) fn is_live(&self) -> bool {
        !self.sender.is_closed()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Whether one more call fits under the peer's MAX_CONCURRENT_STREAMS: what exceeds it would wait unseen.
    pub(super) fn has_room(&self) -> bool {
        let in_flight = self.in_flight();
        in_flight == 0 || in_flight < MAX_STREAMS.min(self.max_streams.load(Relaxed))
    }

    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }
}
