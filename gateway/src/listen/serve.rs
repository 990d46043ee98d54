//! Serves one connection: HTTP/1.1, or HTTP/2 when it begins with HTTP/2's preface.

use crate::{edge::Connection, front::Front};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};
use tokio::net::TcpStream;

/// hyper's smallest buffer; the edge's own, lower limit on heads answers with a document.
const SMALLEST_BUFFER: usize = 8192;
/// Stream windows of HTTP/2: small, so that stalled readers cannot hold much.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Serves until the client leaves, or the connection is told to end.
pub(super) async fn connection(stream: TcpStream, front: Arc<Front>, connection: Arc<Connection>) {
    let limits = front.snapshot.load().config.limits.clone();
    let Some(preface) = is_http2(&stream, &connection, &front).await else { return };
    let handler = Arc::clone(&connection);
    let draining = Arc::clone(&front);
    let service = service_fn(move |request| Arc::clone(&front).serve(Arc::clone(&handler), request));
    let io = TokioIo::new(stream);
    if preface {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(u32::try_from(limits.streams_per_connection.0).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(limits.header_bytes.0 * 2).unwrap_or(u32::MAX))
            .enable_connect_protocol()
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let serving = builder.serve_connection(io, service);
        drive(pin!(serving), &connection, &draining, |serving| serving.graceful_shutdown()).await;
    } else {
        let mut builder = http1::Builder::new();
        let buffer = usize::try_from(limits.header_bytes.0).unwrap_or(SMALLEST_BUFFER) * 2;
        builder.max_buf_size(buffer.max(SMALLEST_BUFFER));
        let serving = builder.serve_connection(io, service).with_upgrades();
        drive(pin!(serving), &connection, &draining, |serving| serving.graceful_shutdown()).await;
    }
}

/// Polls a connection, and looks at two flags besides: whoever sets them wakes the task.
async fn drive<C, E>(
    mut serving: Pin<&mut C>,
    connection: &Connection,
    front: &Front,
    shut_down: impl Fn(Pin<&mut C>),
) where
    C: Future<Output = Result<(), E>>,
{
    let mut told = false;
    poll_fn(|cx| {
        // A task's waker stays the same for its life.
        connection.waker.get_or_init(|| cx.waker().clone());
        if connection.close.load(Relaxed) {
            return Poll::Ready(());
        }
        if !told && front.draining.load(Relaxed) {
            told = true;
            shut_down(serving.as_mut());
        }
        serving.as_mut().poll(cx).map(drop)
    })
    .await;
}

/// Looks at the first bytes without taking them; no method of HTTP/1 begins like the preface. `None`: nothing came.
async fn is_http2(stream: &TcpStream, connection: &Connection, front: &Front) -> Option<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut first = [0; PREFACE.len()];
    loop {
        let peeked = {
            let mut peek = pin!(stream.peek(&mut first));
            poll_fn(|cx| {
                connection.waker.get_or_init(|| cx.waker().clone());
                // Whoever has not asked for anything holds no drain up.
                match connection.close.load(Relaxed) || front.draining.load(Relaxed) {
                    true => Poll::Ready(None),
                    false => peek.as_mut().poll(cx).map(Result::ok),
                }
            })
            .await?
        };
        match peeked {
            0 => return None,
            n if first[..n] != PREFACE[..n] => return Some(false),
            n if n == PREFACE.len() => return Some(true),
            // "P" may still become POST: what is there stays readable, so wait by the clock.
            _ if connection.close.load(Relaxed) => return None,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
