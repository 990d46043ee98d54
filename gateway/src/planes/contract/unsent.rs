//! How much of a body has been handed out and not yet written to the client. hyper takes what it is given long before
//! it can be written; for each client that does not read, all of that would wait in memory.

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

/// No more is handed out while this much waits.
const ENOUGH: usize = 8 << 10;

/// What one body has on its way.
#[derive(Default)]
pub(super) struct Unsent {
    bytes: AtomicUsize,
    body: AtomicWaker,
}

impl Unsent {
    /// Ready once little enough is on its way.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.bytes.load(SeqCst) < ENOUGH {
            return Poll::Ready(());
        }
        self.body.register(cx.waker());
        // It may have been written in between.
        if self.bytes.load(SeqCst) < ENOUGH { Poll::Ready(()) } else { Poll::Pending }
    }

    /// `data` as it is handed out: it is on its way until the last of it is dropped.
    pub(super) fn hand_out(self: &Arc<Self>, data: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        self.bytes.fetch_add(data.as_ref().len(), SeqCst);
        Bytes::from_owner(Piece { data, unsent: Arc::clone(self) })
    }
}

struct Piece<D: AsRef<[u8]>> {
    data: D,
    unsent: Arc<Unsent>,
}

impl<D: AsRef<[u8]>> AsRef<[u8]> for Piece<D> {
    fn as_ref(&self) -> &[u8] {
        self.data.as_ref()
    }
}

impl<D: AsRef<[u8]>> Drop for Piece<D> {
    fn drop(&mut self) {
        let length = self.data.as_ref().len();
        let before = self.unsent.bytes.fetch_sub(length, SeqCst);
        if before >= ENOUGH && before - length < ENOUGH {
            self.unsent.body.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker_ref;

    #[test]
    fn room_is_there_again_once_enough_was_written() {
        let (unsent, cx) = (Arc::new(Unsent::default()), Context::from_waker(noop_waker_ref()));
        let small = unsent.hand_out(vec![1; ENOUGH - 1]);
        assert!(unsent.poll_room(&cx).is_ready());
        let mut large = unsent.hand_out(vec![2; 2 * ENOUGH]);
        assert!(unsent.poll_room(&cx).is_pending());
        // A part of it is not enough: all of it is kept until the end.
        let part = large.split_to(ENOUGH);
        drop((small, large));
        assert!(unsent.poll_room(&cx).is_pending());
        assert_eq!(part[0], 2);
        drop(part);
        assert!(unsent.poll_room(&cx).is_ready());
    }
}
