//! One connection to an upstream, driven by the task of the request that holds it: that spares wake-ups, and dropping
//! the request closes the connection at once.

use super::{
    InFlight, Wait,
    framing::{Framing, Piece},
    response::{BadHead, ResponseHead, take_head},
    timer::LazyTimer,
    upload::{Upload, UploadError},
};
use crate::edge::{BodyError, Link};
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// How much is read at once: at first, and at most, when a body keeps filling what was offered.
const READ: usize = 16 << 10;
const MAX_READ: usize = 64 << 10;
/// Below this, reading into what is left of a buffer in use does not pay.
const MIN_READ: usize = 2 << 10;

/// A connection. Dropping it closes it.
pub(super) struct Conn {
    stream: TcpStream,
    input: BytesMut,
    read: usize,
    /// What is still being sent although the response has begun.
    upload: Option<Box<Upload>>,
    framing: Framing,
    keep_alive: bool,
    /// It has served before.
    pub(super) reused: bool,
    pub(super) unused_since: Instant,
    /// Set while it serves.
    pub(super) in_flight: Option<InFlight>,
    timer: LazyTimer,
    /// Something has come since `body_deadline` was set.
    progress: bool,
    body_idle: Duration,
    body_deadline: Instant,
    /// The client's own deadline, which also bounds the body.
    until: Option<Instant>,
}

/// Why there is no response.
pub(super) enum Failure {
    /// The deadline passed.
    Timeout,
    /// The client's body did not come, or was too large.
    Upload(UploadError),
    /// The upstream failed.
    Broken(Broken),
}

/// How a connection breaks.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It was reset, or the like.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It ended before the response's head was complete.
    #[error("it ended before the response")]
    Ended,
    /// What came is not HTTP.
    #[error("{0}")]
    Head(String),
}

impl From<BadHead> for Broken {
    fn from(bad: BadHead) -> Self {
        Self::Head(bad.to_string())
    }
}

impl Conn {
    pub(super) fn new(stream: TcpStream, body_idle: Duration, deadline: Instant) -> Self {
        let now = Instant::now();
        Self {
            stream,
            input: BytesMut::new(),
            read: READ,
            upload: None,
            framing: Framing::Length(0),
            keep_alive: true,
            reused: false,
            unused_since: now,
            in_flight: None,
            timer: LazyTimer::new(deadline),
            progress: true,
            body_idle,
            body_deadline: now,
            until: None,
        }
    }

    /// Sends a request and waits for the response's head.
    pub(super) async fn exchange(
        &mut self,
        upload: &mut Upload,
        to_head: bool,
        wait: Wait,
    ) -> Result<ResponseHead, Failure> {
        let budget = wait.deadline - wait.start;
        let mut uploading = upload.is_running();
        let mut deadline = if uploading { wait.start + self.body_idle } else { wait.deadline };
        let mut unsent = None;
        poll_fn(|cx| {
            if unsent.is_none() && !upload.is_sent() {
                match upload.poll(cx, &mut self.stream) {
                    // The upstream may have answered before it closed.
                    Poll::Ready(Err(UploadError::Upstream(error))) => unsent = Some(error),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Upload(error))),
                    _ => {}
                }
            }
            match self.poll_head(cx, to_head) {
                Poll::Ready(Ok(head)) => return Poll::Ready(Ok(head)),
                Poll::Ready(Err(error)) => {
                    let error = unsent.take().map_or(error, Broken::Io);
                    return Poll::Ready(Err(Failure::Broken(error)));
                }
                Poll::Pending => {}
            }
            loop {
                if uploading && !upload.is_running() {
                    uploading = false;
                    deadline = Instant::now() + budget;
                }
                let bound = if wait.absolute { deadline.min(wait.deadline) } else { deadline };
                ready!(self.timer.poll(cx, bound));
                let moved = uploading && upload.take_progress();
                if !moved || (wait.absolute && bound == wait.deadline) {
                    return Poll::Ready(Err(Failure::Timeout));
                }
                deadline = Instant::now() + self.body_idle;
            }
        })
        .await
    }

    /// A head was taken: what is left of the request goes on beside its body.
    pub(super) fn begin_body(&mut self, head: &mut ResponseHead, upload: Upload, wait: Wait) {
        self.framing = std::mem::replace(&mut head.framing, Framing::Length(0));
        self.keep_alive = head.keep_alive;
        self.upload = (!upload.is_sent()).then(|| Box::new(upload));
        self.progress = true;
        self.until = wait.absolute.then_some(wait.deadline);
    }

    /// The body, where all of it is there already.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        let length = self.framing.length().and_then(|length| usize::try_from(length).ok())?;
        (length <= self.input.len()).then(|| {
            self.framing = Framing::Length(0);
            self.input.split_to(length).freeze()
        })
    }

    /// Whether nothing has come since the last response, not even an end.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether any of a response has come.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// The socket, with what was read beyond the head.
    pub(super) fn into_socket(self) -> (TcpStream, Bytes) {
        (self.stream, self.input.freeze())
    }

    /// Puts it back where it can serve again, and ends the request that it served.
    pub(super) fn finish(mut self: Box<Self>) {
        let Some(in_flight) = self.in_flight.take() else { return };
        let served = self.framing.has_ended() && self.upload.is_none();
        if served && self.keep_alive && self.input.is_empty() {
            if std::mem::replace(&mut self.read, READ) > READ {
                self.input = BytesMut::new();
            }
            in_flight.keep(self);
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, to_head: bool) -> Poll<Result<ResponseHead, Broken>> {
        loop {
            if let Some(head) = take_head(&mut self.input, to_head)? {
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(Broken::Ended));
            }
        }
    }

    /// Reads what is there; 0 at the connection's end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // What was given out before may still be on its way to the client, and then a new buffer is needed.
        if !self.input.try_reclaim(self.read) && self.input.capacity() - self.input.len() < MIN_READ {
            self.input.reserve(self.read);
        }
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input))?;
        if read >= self.read {
            self.read = (self.read * 2).min(MAX_READ);
        }
        Poll::Ready(Ok(read))
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) {
        let Some(upload) = &mut self.upload else { return };
        let ended = upload.poll(cx, &mut self.stream);
        self.progress |= upload.take_progress();
        match ended {
            Poll::Ready(Ok(())) => self.upload = None,
            // The response may be whole all the same; the connection is not used again.
            Poll::Ready(Err(_)) => {
                self.upload = None;
                self.keep_alive = false;
            }
            Poll::Pending => {}
        }
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.framing.take(&mut self.input)? {
                Piece::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Piece::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Piece::End => return Poll::Ready(None),
                Piece::More => {}
            }
            if ready!(self.poll_fill(cx))? == 0 {
                if self.framing != Framing::Close {
                    return Poll::Ready(Some(Err("the upstream's response was cut".into())));
                }
                self.framing = Framing::Length(0);
            }
        }
    }

    /// Ready when nothing has come for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.progress) {
            let idle = Instant::now() + self.body_idle;
            self.body_deadline = self.until.map_or(idle, |until| until.min(idle));
        }
        self.timer.poll(cx, self.body_deadline)
    }
}

impl Link for Conn {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_upload(cx);
        let frame = self.poll_content(cx);
        if frame.is_ready() {
            self.progress = true;
            return frame;
        }
        if self.input.is_empty() {
            // Streams that wait hold no buffer.
            self.input = BytesMut::new();
        }
        ready!(self.poll_stalled(cx));
        Poll::Ready(Some(Err("the upstream's response stalled".into())))
    }

    fn has_ended(&self) -> bool {
        self.framing.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.framing.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn release(self: Box<Self>) {
        self.finish();
    }
}
