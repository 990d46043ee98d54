//! What waits for a socket: pieces that others may share, written together and never copied where the socket takes
//! several at once. Nothing is kept while nothing waits.

use bytes::{Buf, Bytes, BytesMut};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// Pieces in one write.
const PIECES: usize = 64;
/// Where a write takes one piece only, as in HTTP/2, short ones are put together up to this size.
const JOINED: usize = 16 << 10;

/// Pieces in order; the first may be written in part.
#[derive(Default)]
pub(super) struct Pending {
    pieces: Vec<Bytes>,
    /// How many of them are written.
    written: usize,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.pieces.len()
    }

    /// Where further pieces go. Only while nothing is written of those before.
    pub(super) fn pieces(&mut self) -> &mut Vec<Bytes> {
        self.pieces.drain(..std::mem::take(&mut self.written));
        &mut self.pieces
    }

    /// Adds a piece after the others.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.pieces().push(piece);
    }

    /// Writes once; ready with whether all is written.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<bool>> {
        if !io.is_write_vectored() {
            self.join();
        }
        let waiting = &self.pieces[self.written..];
        let mut slices = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(waiting) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        let written = match count {
            1 => ready!(Pin::new(io).poll_write(cx, &waiting[0]))?,
            _ => ready!(Pin::new(io).poll_write_vectored(cx, &slices[..count]))?,
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(self.is_empty()))
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.get_mut(self.written) {
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            // Given back now: others may wait for the memory of a whole batch.
            *piece = Bytes::new();
            self.written += 1;
        }
        *self = Self::default();
    }

    /// Puts the first pieces together where one write could take them.
    fn join(&mut self) {
        let waiting = &self.pieces[self.written..];
        let fits = |size: &mut usize, piece: &Bytes| {
            *size += piece.len();
            (*size <= JOINED).then_some(())
        };
        let count = waiting.iter().scan(0, fits).count();
        if count < 2 {
            return;
        }
        let mut joined = BytesMut::with_capacity(waiting[..count].iter().map(Bytes::len).sum());
        waiting[..count].iter().for_each(|piece| joined.extend_from_slice(piece));
        let last = self.written + count - 1;
        self.pieces[last] = joined.freeze();
        self.written = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Takes so many bytes at a time, and counts the writes.
    struct Sink {
        taken: Vec<u8>,
        at_once: usize,
        vectored: bool,
        writes: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.at_once);
            self.taken.extend_from_slice(&bytes[..taken]);
            self.writes += 1;
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let whole: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(cx, &whole)
        }

        fn is_write_vectored(&self) -> bool {
            self.vectored
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn write(pieces: &[&'static [u8]], at_once: usize, vectored: bool) -> (Vec<u8>, usize) {
        let mut sink = Sink { taken: vec![], at_once, vectored, writes: 0 };
        let mut pending = Pending::default();
        pending.pieces().extend(pieces.iter().map(|piece| Bytes::from_static(piece)));
        let mut cx = Context::from_waker(Waker::noop());
        while !pending.is_empty() {
            assert!(pending.poll_write(&mut cx, &mut sink).is_ready());
        }
        assert_eq!(pending.pieces.capacity(), 0, "nothing is kept");
        (sink.taken, sink.writes)
    }

    #[test]
    fn pieces_leave_in_order_however_little_is_taken() {
        let pieces: [&[u8]; 4] = [b"abc", b"", b"defgh", b"i"];
        for at_once in 1..12 {
            for vectored in [true, false] {
                assert_eq!(write(&pieces, at_once, vectored).0, b"abcdefghi", "{at_once}");
            }
        }
    }

    #[test]
    fn what_is_there_leaves_in_one_write() {
        let pieces: Vec<&[u8]> = vec![b"xy"; PIECES];
        assert_eq!(write(&pieces, usize::MAX, true).1, 1);
        assert_eq!(write(&pieces, usize::MAX, false).1, 1);
        let large: &[u8] = &[0; JOINED];
        assert_eq!(write(&[b"a", large, b"b", b"c"], usize::MAX, false).1, 3);
    }

    #[test]
    fn more_can_be_added_after_a_part_was_written() {
        let mut sink = Sink { taken: vec![], at_once: 2, vectored: true, writes: 0 };
        let mut pending = Pending::default();
        pending.push(Bytes::from_static(b"abc"));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(pending.poll_write(&mut cx, &mut sink), Poll::Ready(Ok(false))));
        pending.push(Bytes::from_static(b"d"));
        while !pending.is_empty() {
            assert!(pending.poll_write(&mut cx, &mut sink).is_ready());
        }
        assert_eq!(sink.taken, b"abcd");
    }
}
