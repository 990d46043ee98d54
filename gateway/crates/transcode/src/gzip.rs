//! gzip for messages, whole in memory and bounded: a small message that says it is a large one is refused early.

use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
use std::io::{Read, Write};

/// Why a message cannot be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GzipError {
    /// It is larger than is allowed.
    #[error("a decompressed message exceeds the limit of {0} bytes")]
    TooLarge(u64),
    /// It is damaged, or something else.
    #[error("a compressed message is not valid gzip")]
    Invalid,
}

/// Decompresses at most `limit` bytes. Nothing stands for nothing: an empty message is never compressed.
pub fn decompress(message: &[u8], limit: u64) -> Result<Vec<u8>, GzipError> {
    let mut out = vec![];
    if message.is_empty() {
        return Ok(out);
    }
    let mut bounded = MultiGzDecoder::new(message).take(limit.saturating_add(1));
    bounded.read_to_end(&mut out).map_err(|_| GzipError::Invalid)?;
    if out.len() as u64 > limit { Err(GzipError::TooLarge(limit)) } else { Ok(out) }
}

/// Compresses, quickly rather than well.
pub fn compress(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(message.len() / 2 + 32), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(message);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_and_the_limit_is_exact() {
        let message = b"hybrid ".repeat(1000);
        let compressed = compress(&message);
        assert!(compressed.len() < 200);
        assert_eq!(decompress(&compressed, 7000).unwrap(), message);
        assert_eq!(decompress(&compressed, 6999), Err(GzipError::TooLarge(6999)));
        assert_eq!(decompress(b"", 0).unwrap(), b"");
    }

    #[test]
    fn damage_is_noticed() {
        let compressed = compress(b"hello");
        for end in 1..compressed.len() {
            assert_eq!(decompress(&compressed[..end], 100), Err(GzipError::Invalid), "{end}");
        }
        assert_eq!(decompress(b"hello", 100), Err(GzipError::Invalid));
        assert_eq!(decompress(&[&compressed[..], b"more"].concat(), 100), Err(GzipError::Invalid));
    }
}
