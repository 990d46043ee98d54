//! What gRPC-Web adds to gRPC's framing: trailers as a last frame of the body, and bodies as base64 text.

use crate::envelope;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// The flag of the frame that holds the trailers.
pub const TRAILERS: u8 = 0x80;

/// Trailers as the frame that ends a body.
pub fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    let mut block = vec![];
    for (name, value) in trailers {
        // `HeaderName` is lower-case, and a `HeaderValue` has no line break.
        block.extend_from_slice(name.as_str().as_bytes());
        block.extend_from_slice(b": ");
        block.extend_from_slice(value.as_bytes());
        block.extend_from_slice(b"\r\n");
    }
    envelope::frame(TRAILERS, &block)
}

/// A piece of a text body. Each piece is padded: clients expect padding anywhere between groups of four.
pub fn encode_text(piece: &[u8]) -> Bytes {
    STANDARD.encode(piece).into()
}

/// A text body that is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A group of four characters that means no bytes.
    #[error("the body is not base64")]
    Invalid,
    /// The last group is not complete.
    #[error("the body ends inside a group of base64")]
    Truncated,
}

/// Decodes a text body in pieces of any size. Padding may end any group: clients encode message by message.
#[derive(Debug, Default)]
pub struct TextDecoder {
    /// The beginning of a group, up to three characters.
    pending: BytesMut,
}

impl TextDecoder {
    /// The bytes that a piece completes.
    pub fn push(&mut self, piece: &[u8]) -> Result<Bytes, TextError> {
        self.pending.extend_from_slice(piece);
        let whole = self.pending.len() / 4 * 4;
        let text = self.pending.split_to(whole);
        let mut out = Vec::with_capacity(whole / 4 * 3);
        let mut rest = &text[..];
        while !rest.is_empty() {
            // Up to the end of the first group with padding: the codec wants that at the end.
            let end = rest.iter().position(|&b| b == b'=').map_or(rest.len(), |at| at / 4 * 4 + 4);
            STANDARD.decode_vec(&rest[..end], &mut out).map_err(|_| TextError::Invalid)?;
            rest = &rest[end..];
        }
        Ok(out.into())
    }

    /// The body has ended.
    pub fn finish(&self) -> Result<(), TextError> {
        if self.pending.is_empty() { Ok(()) } else { Err(TextError::Truncated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn decode(pieces: &[&str]) -> Result<Vec<u8>, TextError> {
        let mut decoder = TextDecoder::default();
        let mut out = vec![];
        for piece in pieces {
            out.extend_from_slice(&decoder.push(piece.as_bytes())?);
        }
        decoder.finish().map(|()| out)
    }

    #[test]
    fn every_split_gives_the_same_bytes() {
        let text = ["one", "two!", "three", "", "sixsix"].map(|part| STANDARD.encode(part)).concat();
        assert!(text.contains("==") && text.contains('='));
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(decode(&pieces).unwrap(), b"onetwo!threesixsix", "{pieces:?}");
            }
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for bad in ["A===", "=AAA", "A=AA", "AA=A", "****", "AAA\n", "AA==A=A="] {
            assert_eq!(decode(&[bad]), Err(TextError::Invalid), "{bad}");
        }
        for cut in ["A", "AAAAAA", "AAA"] {
            assert_eq!(decode(&[cut]), Err(TextError::Truncated), "{cut}");
        }
    }

    #[test]
    fn trailers_are_lines_in_a_frame_of_their_own() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.append("x-more", HeaderValue::from_static("a"));
        trailers.append("x-more", HeaderValue::from_static("b"));
        let frame = trailers_frame(&trailers);
        assert_eq!(&frame[..5], [0x80, 0, 0, 0, 38]);
        assert_eq!(&frame[5..], b"grpc-status: 0\r\nx-more: a\r\nx-more: b\r\n");
        assert_eq!(encode_text(&frame[..1]), "gA==");
    }
}
