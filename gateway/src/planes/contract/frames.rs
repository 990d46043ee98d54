//! gRPC's length-prefixed messages, out of data that is cut anywhere.

use crate::edge::{Code, Problem};
use bytes::{Buf, Bytes, BytesMut};

/// Flag and length.
const PREFIX: usize = 5;

/// The next whole message; none until more of it has come.
pub(super) fn take(
    chunk: &mut Bytes,
    partial: &mut BytesMut,
    limit: usize,
) -> Result<Option<Bytes>, Problem> {
    if partial.is_empty() {
        if let Some(length) = length(chunk, limit)?
            && chunk.len() >= PREFIX + length
        {
            chunk.advance(PREFIX);
            return Ok(Some(chunk.split_to(length)));
        }
        partial.extend_from_slice(&std::mem::take(chunk));
        return Ok(None);
    }
    loop {
        let whole = PREFIX + length(partial, limit)?.unwrap_or(0);
        if partial.len() == whole && partial.len() >= PREFIX {
            let mut message = partial.split().freeze();
            message.advance(PREFIX);
            return Ok(Some(message));
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        partial.reserve(whole - partial.len());
        partial.extend_from_slice(&chunk.split_to(chunk.len().min(whole - partial.len())));
    }
}

/// The length that a prefix states, once all of the prefix is there.
fn length(data: &[u8], limit: usize) -> Result<Option<usize>, Problem> {
    let Some((flag, length)) = data.split_first_chunk::<PREFIX>().map(|(prefix, _)| {
        let [flag, length @ ..] = *prefix;
        (flag, u32::from_be_bytes(length) as usize)
    }) else {
        return Ok(None);
    };
    if flag != 0 {
        // None was accepted, so none may be used.
        return Err(Problem::new(Code::BadGateway, "The upstream's answer is compressed."));
    }
    if length > limit {
        let detail = format!("A message of the upstream's answer exceeds {limit} bytes.");
        return Err(Problem::new(Code::BadGateway, detail));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: &[u8] = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x02de";

    fn messages(pieces: impl Iterator<Item = &'static [u8]>) -> Vec<Bytes> {
        let (mut partial, mut out) = (BytesMut::new(), vec![]);
        for piece in pieces {
            let mut chunk = Bytes::from_static(piece);
            while let Some(message) = take(&mut chunk, &mut partial, 3).unwrap() {
                out.push(message);
            }
            assert!(chunk.is_empty());
        }
        assert!(partial.is_empty());
        out
    }

    #[test]
    fn messages_are_whole_however_the_data_is_cut() {
        let expected = [&b"abc"[..], b"", b"de"];
        assert_eq!(messages([WIRE].into_iter()), expected);
        for size in 1..WIRE.len() {
            assert_eq!(messages(WIRE.chunks(size)), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_compressed_or_too_large_is_refused() {
        let refused = |wire: &'static [u8]| {
            let mut chunk = Bytes::from_static(wire);
            take(&mut chunk, &mut BytesMut::new(), 3).unwrap_err().code()
        };
        assert_eq!(refused(b"\x01\0\0\0\x01a"), Code::BadGateway);
        assert_eq!(refused(b"\0\0\0\0\x04"), Code::BadGateway);
    }
}
