//! An open WebSocket: frames both ways until one side ends it. An idle one is a small task without a buffer: what comes
//! is read into one scratch buffer a thread, and what waits is written together.

use super::{
    Limits,
    frame::{self, Fault, Heard, Reader},
    write::Pending,
};
use crate::edge::trace;
use bytes::Bytes;
use hub::{Client, Closing, Outbox, Wire, proto::CloseCode};
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, Sleep, sleep, timeout},
};

/// For the last frames, and for the client to leave after them.
const GOODBYE: Duration = Duration::from_secs(1);
/// Bytes that are taken from the outbox at a time, about.
const WRITE: usize = 64 << 10;
const SCRATCH: usize = 64 << 10;

thread_local! {
    static SCRATCH_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// The hub's ends of a connection.
pub(super) struct Ends {
    pub(super) client: Client,
    pub(super) outbox: Outbox,
    pub(super) wire: Wire,
    pub(super) limits: Limits,
}

/// Why a conversation ends.
#[derive(Debug)]
enum End {
    /// The client is gone, or takes nothing.
    Gone,
    /// The client said goodbye, with its code.
    Left(Option<u16>),
    /// The hub ends it.
    Closing(Closing),
    /// What came is no WebSocket.
    Fault(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A client's socket with the hub's ends.
pub(super) struct Conversation<C> {
    io: C,
    client: Client,
    outbox: Outbox,
    ear: Ear,
    mouth: Mouth,
    /// What came with the handshake.
    early: Bytes,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Conversation<C> {
    pub(super) fn new(io: C, early: Bytes, ends: Ends) -> Self {
        let Ends { client, outbox, wire, limits } = ends;
        let text = wire == Wire::WebSocketJson;
        let ear = Ear { reader: Reader::default(), text, limit: limits.frame_bytes, pong: None };
        let mouth = Mouth { pending: Pending::default(), patience: limits.write_timeout, stalled: None };
        Self { io, client, outbox, ear, mouth, early }
    }

    pub(super) async fn run(mut self) {
        let end = self.talk().await;
        tracing::debug!(?end, "channels socket closed");
        if matches!(end, End::Fault(_)) {
            // Counted; what is said to the client is the protocol's own code.
            self.client.break_off("broken frames");
        }
        if let Some(frame) = goodbye_frame(&end) {
            let last_words = matches!(end, End::Closing(_));
            // Boxed apart, so that it is no part of an open socket.
            let _ = timeout(GOODBYE, Box::pin(self.goodbye(frame, last_words))).await;
        }
    }

    /// Carries frames both ways until something ends it.
    async fn talk(&mut self) -> End {
        let early = std::mem::take(&mut self.early);
        if !early.is_empty()
            && let Err(end) = self.ear.hear(&mut self.client, &mut early.to_vec())
        {
            return end;
        }
        drop(early);
        loop {
            if let Some(end) = self.fill() {
                return end;
            }
            if let Err(end) = self.next().await {
                return end;
            }
        }
    }

    /// Takes what waits, once everything before it is written. Some: there is nothing, and will be nothing.
    fn fill(&mut self) -> Option<End> {
        let pending = &mut self.mouth.pending;
        if !pending.is_empty() {
            return None;
        }
        if let Some(pong) = self.ear.pong.take() {
            pending.push(pong);
        }
        self.outbox.take(pending.pieces(), WRITE);
        match pending.is_empty() {
            true => self.outbox.closing().map(End::Closing),
            false => None,
        }
    }

    /// Waits until all is written, something is to be written, or something came.
    async fn next(&mut self) -> Result<(), End> {
        let Self { io, client, outbox, ear, mouth, .. } = self;
        let mut ready = pin!(outbox.ready());
        poll_fn(|cx| {
            if mouth.pending.is_empty() {
                if ready.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
            } else if let Poll::Ready(written) = mouth.poll(cx, io) {
                return Poll::Ready(written);
            }
            ear.poll(cx, io, client)
        })
        .await
    }

    /// Says the last words, and reads on until the client has left: closing a socket in which something is unread would
    /// take back what the client has not read yet.
    async fn goodbye(mut self, frame: Bytes, last_words: bool) {
        while last_words && self.outbox.take(self.mouth.pending.pieces(), WRITE) {}
        drop((self.client, self.outbox));
        let (mut io, mut mouth) = (self.io, self.mouth);
        mouth.pending.push(frame);
        if poll_fn(|cx| mouth.poll(cx, &mut io)).await.is_err() || io.shutdown().await.is_err() {
            return;
        }
        while poll_fn(|cx| poll_read(cx, &mut io, |bytes| bytes.len())).await.is_ok_and(|read| read > 0) {}
    }
}

fn goodbye_frame(end: &End) -> Option<Bytes> {
    Some(match end {
        End::Gone => return None,
        End::Left(code) => frame::close(code.unwrap_or(1000), ""),
        End::Closing(closing) => frame::close(closing.code as u16, &closing.reason()),
        End::Fault(Fault::Protocol(wrong)) => frame::close(1002, wrong),
        End::Fault(Fault::NotUtf8) => frame::close(1007, "text is not UTF-8"),
        End::Fault(Fault::TooLarge) => {
            let closing = Closing::new(CloseCode::BadFrame, "");
            frame::close(closing.code as u16, &closing.reason())
        }
    })
}

/// What comes from the client.
struct Ear {
    reader: Reader,
    /// Whether messages are text.
    text: bool,
    limit: usize,
    /// The answer to the last ping; one that was not sent yet is not owed any more (RFC 6455, section 5.5.3).
    pong: Option<Bytes>,
}

impl Ear {
    /// Reads once, and carries out what came.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut (impl AsyncRead + Unpin),
        client: &mut Client,
    ) -> Poll<Result<(), End>> {
        poll_read(cx, io, |bytes| match bytes {
            [] => Err(End::Gone),
            bytes => self.hear(client, bytes),
        })
        .map(|read| read.unwrap_or(Err(End::Gone)))
    }

    fn hear(&mut self, client: &mut Client, bytes: &mut [u8]) -> Result<(), End> {
        let (text, pong) = (self.text, &mut self.pong);
        self.reader.read(bytes, self.limit, |heard| match heard {
            Heard::Text(message) if text => receive(client, message),
            Heard::Binary(message) if !text => receive(client, message),
            Heard::Text(_) => Err(unexpected(client, "expected binary messages")),
            Heard::Binary(_) => Err(unexpected(client, "expected messages of text")),
            Heard::Ping(payload) => {
                *pong = Some(frame::pong(payload));
                Ok(())
            }
            Heard::Pong => Ok(()),
            Heard::Close(code) => Err(End::Left(code)),
        })
    }
}

/// A connection lives for hours: each message begins a trace of its own.
fn receive(client: &mut Client, message: &[u8]) -> Result<(), End> {
    client.receive(message, &trace::fresh()).map_err(End::Closing)
}

fn unexpected(client: &mut Client, message: &str) -> End {
    End::Closing(client.break_off(message))
}

/// Reads once into the thread's scratch buffer; no bytes are the end.
fn poll_read<T>(
    cx: &mut Context<'_>,
    io: &mut (impl AsyncRead + Unpin),
    then: impl FnOnce(&mut [u8]) -> T,
) -> Poll<io::Result<T>> {
    SCRATCH_BUFFER.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(then(buffer.filled_mut())))
    })
}

/// What goes to the client.
struct Mouth {
    pending: Pending,
    patience: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Mouth {
    /// Writes; ready when all is written, or when nothing was taken for too long.
    fn poll(&mut self, cx: &mut Context<'_>, io: &mut (impl AsyncWrite + Unpin)) -> Poll<Result<(), End>> {
        loop {
            match self.pending.poll_write(cx, io) {
                Poll::Ready(Ok(true)) => {
                    self.stalled = None;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(false)) => {
                    if let Some(stalled) = &mut self.stalled {
                        stalled.as_mut().reset(Instant::now() + self.patience);
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Gone)),
                Poll::Pending => {
                    let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.patience)));
                    return stalled.as_mut().poll(cx).map(|()| Err(End::Gone));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
