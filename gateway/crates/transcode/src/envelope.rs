//! Length-prefixed messages as gRPC, gRPC-Web and Connect frame them: a byte of flags, four bytes of length (big
//! endian), the message. Incremental: bytes come in pieces of any size, and what they mean does not depend on it.

use bytes::{BufMut, Bytes, BytesMut};

/// Flags and length.
pub const HEADER: usize = 5;
/// The flag of a compressed message, the only one that a message can have.
pub const COMPRESSED: u8 = 1;

/// A message with its flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Whether the message is compressed.
    pub compressed: bool,
    /// The message.
    pub data: Bytes,
}

/// Why bytes are no sequence of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The message is larger than the decoder takes.
    #[error("a message of {length} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// As its header states.
        length: u32,
        /// What is allowed.
        limit: u64,
    },
    /// Flags that no message has.
    #[error("a message has the flags {0:#04x}; 0x00 (as it is) and 0x01 (compressed) are allowed")]
    Flags(u8),
    /// The end came too early.
    #[error("the body ends inside a message")]
    Truncated,
}

/// Takes messages out of a body. Holds at most one incomplete message beside what was pushed last.
///
/// What is whole in a piece is a slice of it: only messages that are cut are copied, once.
#[derive(Debug)]
pub struct Decoder {
    /// The last piece, as far as it is not taken.
    piece: Bytes,
    /// The beginning of a message that goes on in the piece or after it, header included. Stands before the piece.
    partial: BytesMut,
    /// The piece is a copy of its own.
    detached: bool,
    limit: u64,
}

impl Decoder {
    /// For messages of at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { piece: Bytes::new(), partial: BytesMut::new(), detached: false, limit }
    }

    /// Takes the next piece of the body.
    pub fn push(&mut self, piece: Bytes) {
        // Nobody has asked for all that was in the last one.
        if !self.piece.is_empty() {
            self.partial.extend_from_slice(&self.piece);
        }
        self.piece = piece;
        self.detached = false;
    }

    /// Copies what is held, so that it keeps no buffer that is larger than itself.
    pub fn detach(&mut self) {
        if !self.detached {
            self.piece = Bytes::copy_from_slice(&self.piece);
            self.detached = true;
        }
    }

    /// The next message; none until it is there as a whole. An error stays: there is no way to go on.
    pub fn next_envelope(&mut self) -> Result<Option<Envelope>, EnvelopeError> {
        Ok(self.next_frame()?.map(|frame| Envelope {
            compressed: frame.first() == Some(&COMPRESSED),
            data: frame.slice(HEADER..),
        }))
    }

    /// The next message as it came: flags, length and all.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, EnvelopeError> {
        if self.partial.is_empty() {
            if let Some(whole) = self.whole(&self.piece)?
                && self.piece.len() >= whole
            {
                return Ok(Some(self.piece.split_to(whole)));
            }
            self.partial.extend_from_slice(&std::mem::take(&mut self.piece));
            return Ok(None);
        }
        loop {
            let whole = self.whole(&self.partial)?;
            if let Some(whole) = whole
                && self.partial.len() >= whole
            {
                return Ok(Some(self.partial.split_to(whole).freeze()));
            }
            if self.piece.is_empty() {
                return Ok(None);
            }
            let missing = whole.unwrap_or(HEADER) - self.partial.len();
            self.partial.extend_from_slice(&self.piece.split_to(missing.min(self.piece.len())));
        }
    }

    /// All messages that are there, as they came, in one piece.
    pub fn frames(&mut self) -> Result<Option<Bytes>, EnvelopeError> {
        if self.partial.is_empty() {
            match self.whole_ones(&self.piece)? {
                0 => self.partial.extend_from_slice(&std::mem::take(&mut self.piece)),
                end => return Ok(Some(self.piece.split_to(end))),
            }
        } else {
            self.partial.extend_from_slice(&std::mem::take(&mut self.piece));
        }
        let end = self.whole_ones(&self.partial)?;
        Ok((end > 0).then(|| self.partial.split_to(end).freeze()))
    }

    /// Where the last whole message ends. What is wrong comes out after what is right.
    fn whole_ones(&self, data: &[u8]) -> Result<usize, EnvelopeError> {
        let mut end = 0;
        loop {
            match self.whole(&data[end..]) {
                Ok(Some(whole)) if data.len() - end >= whole => end += whole,
                Err(error) if end == 0 => return Err(error),
                _ => return Ok(end),
            }
        }
    }

    /// The body has ended: nothing may be left over.
    pub fn finish(&self) -> Result<(), EnvelopeError> {
        let done = self.partial.is_empty() && self.piece.is_empty();
        if done { Ok(()) } else { Err(EnvelopeError::Truncated) }
    }

    /// The length, header included, of the message that begins here, once all of its header is there.
    fn whole(&self, data: &[u8]) -> Result<Option<usize>, EnvelopeError> {
        match data.first() {
            Some(&flags) if flags & !COMPRESSED != 0 => return Err(EnvelopeError::Flags(flags)),
            _ => {}
        }
        let Some(&[_, a, b, c, d]) = data.first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        if u64::from(length) > self.limit {
            return Err(EnvelopeError::TooLarge { length, limit: self.limit });
        }
        Ok(Some(HEADER + length as usize))
    }
}

/// Appends a message. One of 4 GiB or more cannot be framed; the limits of those who call are far below.
pub fn put(flags: u8, message: &[u8], out: &mut BytesMut) {
    out.reserve(HEADER + message.len());
    out.put_u8(flags);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
}

/// A message alone.
pub fn frame(flags: u8, message: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put(flags, message, &mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Bytes {
        [frame(0, b"one"), frame(1, b""), frame(0, &[7; 300])].concat().into()
    }

    fn decode(pieces: &[&[u8]]) -> Vec<Envelope> {
        let mut decoder = Decoder::new(300);
        let mut found = vec![];
        for piece in pieces {
            decoder.push(Bytes::copy_from_slice(piece));
            while let Some(envelope) = decoder.next_envelope().unwrap() {
                found.push(envelope);
            }
        }
        decoder.finish().unwrap();
        found
    }

    #[test]
    fn every_split_gives_the_same_messages() {
        let body = body();
        let whole = decode(&[&body]);
        let sizes: Vec<_> = whole.iter().map(|e| (e.compressed, e.data.len())).collect();
        assert_eq!(sizes, [(false, 3), (true, 0), (false, 300)]);
        for first in 0..=body.len() {
            for second in first..=body.len() {
                assert_eq!(decode(&[&body[..first], &body[first..second], &body[second..]]), whole);
            }
        }
        assert_eq!(decode(&body.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn frames_come_out_whole_and_as_they_came() {
        let body = body();
        for split in 0..=body.len() {
            let mut decoder = Decoder::new(300);
            let mut out = vec![];
            for piece in [body.slice(..split), body.slice(split..)] {
                decoder.push(piece);
                if let Some(frames) = decoder.frames().unwrap() {
                    assert!(matches!(frames.len(), 8 | 5 | 13 | 305 | 310 | 318), "only whole ones");
                    out.extend_from_slice(&frames);
                }
            }
            assert_eq!(out, body, "{split}");
            decoder.push(body.slice(..7));
            assert_eq!((decoder.next_frame(), decoder.finish()), (Ok(None), Err(EnvelopeError::Truncated)));
            decoder.push(body.slice(7..));
            assert_eq!(decoder.next_frame(), Ok(Some(body.slice(..8))));
        }
    }

    #[test]
    fn what_is_too_large_is_refused_by_its_header() {
        let mut decoder = Decoder::new(2);
        decoder.push([frame(0, b"ok"), Bytes::from_static(&[0, 0, 0, 0, 3])].concat().into());
        assert_eq!(decoder.frames().unwrap().unwrap().len(), 7, "what is right comes first");
        let error = EnvelopeError::TooLarge { length: 3, limit: 2 };
        assert_eq!(decoder.frames(), Err(error));
        assert_eq!(decoder.next_envelope(), Err(error));
        assert_eq!(error.to_string(), "a message of 3 bytes exceeds the limit of 2 bytes");
    }

    #[test]
    fn flags_that_no_message_has_are_refused_at_once() {
        for flags in [2, 3, 0x80, 0xff] {
            let mut decoder = Decoder::new(100);
            decoder.push(Bytes::copy_from_slice(&[flags]));
            assert_eq!(decoder.next_envelope(), Err(EnvelopeError::Flags(flags)));
        }
    }
}
