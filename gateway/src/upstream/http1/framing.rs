//! Where a message's body ends (RFC 9112, 6 and 7): lengths, chunks, or the connection's end.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A chunk's size line with its extensions, which nobody uses.
const MAX_SIZE_LINE: usize = 256;
const MAX_TRAILERS: usize = 16 << 10;
const MAX_TRAILER_FIELDS: usize = 64;

/// How a response's body is framed, and how much of it is to come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// As many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Until the connection ends.
    Close,
}

/// What a chunked body goes on with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// A size line.
    Size,
    /// As many bytes of content.
    Data(u64),
    /// The line end behind the content.
    DataEnd,
    /// Trailers, or the empty line in their place.
    Trailers,
    /// Nothing.
    Ended,
}

/// What a look at the input gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Content.
    Data(Bytes),
    /// Trailers, behind which nothing comes.
    Trailers(HeaderMap),
    /// The body has ended.
    End,
    /// More input is needed.
    More,
}

/// A chunked body that is not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the upstream's chunks are malformed: {0}")]
pub(super) struct BadChunk(&'static str);

impl Framing {
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunk::Size)
    }

    /// Nothing more will come.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Ended))
    }

    /// The rest's length, where it is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            _ => None,
        }
    }

    /// Takes the next piece off the input.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Result<Piece, BadChunk> {
        match self {
            _ if self.has_ended() => Ok(Piece::End),
            Self::Chunked(chunk) => chunk.take(input),
            _ if input.is_empty() => Ok(Piece::More),
            Self::Length(left) => Ok(Piece::Data(content(input, left))),
            Self::Close => Ok(Piece::Data(input.split().freeze())),
        }
    }
}

/// As much of the content as is there.
fn content(input: &mut BytesMut, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= length as u64;
    input.split_to(length).freeze()
}

impl Chunk {
    fn take(&mut self, input: &mut BytesMut) -> Result<Piece, BadChunk> {
        loop {
            match self {
                Self::Size => {
                    let Some(end) = line_end(input, MAX_SIZE_LINE)? else { return Ok(Piece::More) };
                    let size = size(&input[..end])?;
                    input.advance(end + 2);
                    *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                }
                Self::Data(_) if input.is_empty() => return Ok(Piece::More),
                Self::Data(left) => {
                    let data = content(input, left);
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(Piece::Data(data));
                }
                Self::DataEnd => {
                    if input.len() < 2 {
                        return Ok(Piece::More);
                    }
                    if !input.starts_with(b"\r\n") {
                        return Err(BadChunk("a chunk is longer than its size"));
                    }
                    input.advance(2);
                    *self = Self::Size;
                }
                Self::Trailers => return self.trailers(input),
                Self::Ended => return Ok(Piece::End),
            }
        }
    }

    fn trailers(&mut self, input: &mut BytesMut) -> Result<Piece, BadChunk> {
        if input.starts_with(b"\r\n") {
            input.advance(2);
            *self = Self::Ended;
            return Ok(Piece::End);
        }
        let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else {
            return if input.len() > MAX_TRAILERS { Err(BadChunk("long trailers")) } else { Ok(Piece::More) };
        };
        let text = input.split_to(end + 4).freeze();
        let mut slots = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
        let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&text, &mut slots) else {
            return Err(BadChunk("trailers that are none"));
        };
        let mut trailers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(text.slice_ref(field.value));
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(BadChunk("trailers that are none"));
            };
            trailers.append(name, value);
        }
        *self = Self::Ended;
        Ok(Piece::Trailers(trailers))
    }
}

/// Where the line ends.
fn line_end(input: &[u8], limit: usize) -> Result<Option<usize>, BadChunk> {
    match memchr::memchr(b'\n', &input[..input.len().min(limit)]) {
        Some(end) if end > 0 && input[end - 1] == b'\r' => Ok(Some(end - 1)),
        Some(_) => Err(BadChunk("a size line without its end")),
        None if input.len() >= limit => Err(BadChunk("a long size line")),
        None => Ok(None),
    }
}

/// Hexadecimal digits; an extension behind them is ignored.
fn size(line: &[u8]) -> Result<u64, BadChunk> {
    let digits = line.split(|&b| b == b';').next().unwrap_or_default().trim_ascii_end();
    let hex = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| hex);
    text.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or(BadChunk("a size that is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a body gives when it arrives in pieces of `step` bytes, and what is left of the input.
    fn collect(mut framing: Framing, text: &[u8], step: usize) -> Result<(Vec<u8>, bool, Vec<u8>), BadChunk> {
        let (mut input, mut content, mut arrivals) = (BytesMut::new(), Vec::new(), text.chunks(step));
        loop {
            match framing.take(&mut input)? {
                Piece::Data(data) => content.extend_from_slice(&data),
                Piece::Trailers(_) | Piece::End => break,
                Piece::More => match arrivals.next() {
                    Some(piece) => input.extend_from_slice(piece),
                    None => return Ok((content, false, input.to_vec())),
                },
            }
        }
        let rest = arrivals.flatten().copied();
        Ok((content, true, input.iter().copied().chain(rest).collect()))
    }

    #[test]
    fn bodies_end_where_they_say_however_they_arrive() {
        let chunks: &[u8] = b"5\r\nhello\r\n1;name=\"v\"\r\n,\r\n00A\r\n0123456789\r\n0\r\n\r\nrest";
        let trailed: &[u8] = b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\nrest";
        for step in 1..=chunks.len() {
            let (content, ended, rest) = collect(Framing::Length(5), b"hellorest", step).unwrap();
            assert_eq!((&content[..], ended, &rest[..]), (&b"hello"[..], true, &b"rest"[..]));
            let (content, ended, rest) = collect(Framing::chunked(), chunks, step).unwrap();
            assert_eq!(
                (&content[..], ended, &rest[..]),
                (&b"hello,0123456789"[..], true, &b"rest"[..]),
                "{step}"
            );
            let (content, ended, rest) = collect(Framing::chunked(), trailed, step).unwrap();
            assert_eq!((&content[..], ended, &rest[..]), (&b"abc"[..], true, &b"rest"[..]));
            let (content, ended, _) = collect(Framing::Close, b"all of it", step).unwrap();
            assert_eq!((&content[..], ended), (&b"all of it"[..], false));
        }
    }

    #[test]
    fn trailers_are_read() {
        let mut framing = Framing::chunked();
        let trailers = framing.take(&mut BytesMut::from("0\r\nA: 1\r\nb: 2\r\n\r\n")).unwrap();
        let Piece::Trailers(trailers) = trailers else { panic!("{trailers:?}") };
        assert_eq!((&trailers["a"], &trailers["b"]), (&HeaderValue::from(1), &HeaderValue::from(2)));
        assert!(framing.has_ended());
    }

    #[test]
    fn a_cut_body_has_not_ended() {
        for cut in ["5\r\nhell", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "0\r\nx: 1\r\n"] {
            assert!(!collect(Framing::chunked(), cut.as_bytes(), 99).unwrap().1, "{cut}");
        }
        assert!(!collect(Framing::Length(5), b"hell", 1).unwrap().1);
    }

    #[test]
    fn chunks_that_two_readers_could_read_differently_are_refused() {
        for bad in [
            "\r\n",
            "+5\r\nhello",
            "0x5\r\n",
            "5\nhello",
            "-1\r\n",
            "fffffffffffffffff\r\n",
            "5\r\nhello!!",
            " 5\r\n",
            "g\r\n",
        ] {
            assert!(collect(Framing::chunked(), bad.as_bytes(), 99).is_err(), "{bad:?}");
        }
        assert!(collect(Framing::chunked(), &[b'1'; MAX_SIZE_LINE], 7).is_err());
        let long = format!("0\r\nx: {}", "y".repeat(MAX_TRAILERS));
        assert!(collect(Framing::chunked(), long.as_bytes(), 999).is_err());
    }
}
