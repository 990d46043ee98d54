//! Watches length-prefixed messages that pass as they are: it reads their heads, and neither copies nor keeps content.

use transcode::envelope::HEADER;

/// Where in a stream of messages one is.
pub(super) struct Heads {
    limit: u64,
    head: [u8; HEADER],
    /// How much of a head has passed.
    begun: usize,
    /// How much of a message's content is to come.
    left: u64,
}

impl Heads {
    /// For messages of at most `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, head: [0; HEADER], begun: 0, left: 0 }
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_torn(&self) -> bool {
        self.begun > 0 || self.left > 0
    }

    /// Looks over the next piece. A message that is too large is the error: how much of the piece lies before it.
    pub(super) fn pass(&mut self, piece: &[u8]) -> Result<(), usize> {
        let mut rest = piece;
        while !rest.is_empty() {
            let content = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= content as u64;
            rest = &rest[content..];
            let before = piece.len() - rest.len();
            let part = rest.len().min(HEADER - self.begun);
            self.head[self.begun..self.begun + part].copy_from_slice(&rest[..part]);
            self.begun += part;
            rest = &rest[part..];
            if self.begun == HEADER {
                let [_, length @ ..] = self.head;
                self.left = u64::from(u32::from_be_bytes(length));
                self.begun = 0;
                if self.left > self.limit {
                    // One whose head has passed in part cannot be taken back.
                    if part == HEADER {
                        self.left = 0;
                    }
                    return Err(before);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of these sizes.
    fn messages(sizes: &[u32]) -> Vec<u8> {
        let frames = sizes.iter().map(|&size| {
            [&[0][..], &size.to_be_bytes(), &vec![0xff; usize::try_from(size).unwrap()]].concat()
        });
        frames.collect::<Vec<_>>().concat()
    }

    #[test]
    fn however_messages_are_cut_their_ends_are_known() {
        let (sizes, all) = ([0, 3, 0, 10, 1], messages(&[0, 3, 0, 10, 1]));
        let mut ends = vec![0];
        for size in sizes {
            ends.push(ends.last().unwrap() + HEADER + usize::try_from(size).unwrap());
        }
        for size in 1..=all.len() {
            let (mut heads, mut passed) = (Heads::new(10), 0);
            for piece in all.chunks(size) {
                heads.pass(piece).unwrap();
                passed += piece.len();
                assert_eq!(heads.is_torn(), !ends.contains(&passed), "{passed} bytes in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_lies_before_too_large_a_message_is_whole() {
        let all = messages(&[3, 11]);
        let mut heads = Heads::new(10);
        assert_eq!(heads.pass(&all), Err(8));
        assert!(!heads.is_torn());
        let mut heads = Heads::new(10);
        assert_eq!((heads.pass(&all[..10]), heads.pass(&all[10..])), (Ok(()), Err(0)));
        assert!(heads.is_torn(), "a part of its head has passed");
    }
}
