//! Length-prefixed messages, and gRPC-Web's text: what they mean does not depend on how they are cut.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use transcode::{
    envelope::{self as frames, Decoder, EnvelopeError},
    grpc_web::{self as text, TextDecoder, TextError},
};

/// The pieces that a first byte cuts the rest into.
fn cut(data: &[u8]) -> Option<(&[u8], std::slice::Chunks<'_, u8>)> {
    let (&size, rest) = data.split_first()?;
    Some((rest, rest.chunks(usize::from(size).max(1))))
}

/// A body read at once, by the format's own words.
fn frames_of(mut body: &[u8], limit: u64) -> (Vec<&[u8]>, Result<(), EnvelopeError>) {
    let mut found = vec![];
    loop {
        let Some(&flags) = body.first() else { return (found, Ok(())) };
        if flags > 1 {
            return (found, Err(EnvelopeError::Flags(flags)));
        }
        let Some(length) = body.get(1..5) else { return (found, Err(EnvelopeError::Truncated)) };
        let length = u32::from_be_bytes(length.try_into().unwrap());
        if u64::from(length) > limit {
            return (found, Err(EnvelopeError::TooLarge { length, limit }));
        }
        let Some((frame, rest)) = body.split_at_checked(5 + length as usize) else {
            return (found, Err(EnvelopeError::Truncated));
        };
        found.push(frame);
        body = rest;
    }
}

/// The three ways to take messages out of a body give what is in it, in pieces of any size.
pub fn envelope(data: &[u8]) {
    const LIMIT: u64 = 300;
    let Some((body, pieces)) = cut(data) else { return };
    let (expected, end) = frames_of(body, LIMIT);
    let read = |take: fn(&mut Decoder) -> Result<Option<Bytes>, EnvelopeError>| {
        let mut decoder = Decoder::new(LIMIT);
        let mut out: Vec<Bytes> = vec![];
        for piece in pieces.clone() {
            decoder.push(Bytes::copy_from_slice(piece));
            loop {
                match take(&mut decoder) {
                    Ok(Some(taken)) => out.push(taken),
                    Ok(None) => break,
                    Err(error) => return (out, Err(error)),
                }
            }
        }
        (out, decoder.finish())
    };
    let (frames, frames_end) = read(Decoder::next_frame);
    assert_eq!((&frames, &frames_end), (&expected.iter().map(|it| it.to_vec().into()).collect(), &end));
    let (joined, joined_end) = read(Decoder::frames);
    assert_eq!((joined.concat(), joined_end), (expected.concat(), end));
    let (messages, messages_end) = read(|decoder| {
        let envelope = decoder.next_envelope()?;
        Ok(envelope.map(|it| frames::frame(u8::from(it.compressed), &it.data)))
    });
    assert_eq!((messages, messages_end), (frames, frames_end));
}

/// A text body means its groups of four, in pieces of any size; what we write ourselves comes back.
pub fn grpc_web(data: &[u8]) {
    let Some((body, pieces)) = cut(data) else { return };
    let decode = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut decoder = TextDecoder::default();
        let mut out = vec![];
        for piece in pieces {
            out.extend_from_slice(&decoder.push(piece)?);
        }
        decoder.finish().map(|()| out)
    };
    let (groups, rest) = body.as_chunks::<4>();
    let expected: Result<Vec<_>, _> = groups.iter().map(|group| STANDARD.decode(group)).collect();
    let expected = match expected {
        Err(_) => Err(TextError::Invalid),
        Ok(_) if !rest.is_empty() => Err(TextError::Truncated),
        Ok(groups) => Ok(groups.concat()),
    };
    assert_eq!(decode(&mut pieces.clone()), expected);
    let text: Vec<_> = pieces.clone().map(text::encode_text).collect();
    assert_eq!(decode(&mut text.iter().map(|it| &it[..])), Ok(body.to_vec()));
    frame_of_trailers(&headers(body));
}

/// One header for each line that is one.
pub(crate) fn headers(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// The frame's lines are the trailers, each once.
fn frame_of_trailers(trailers: &HeaderMap) {
    let frame = text::trailers_frame(trailers);
    assert_eq!(frame[0], text::TRAILERS);
    assert_eq!(frame[1..5], u32::try_from(frame.len() - 5).unwrap().to_be_bytes());
    let mut rest = &frame[5..];
    let mut read = HeaderMap::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let colon = rest.windows(2).position(|two| two == b": ").unwrap();
        let name = HeaderName::from_bytes(&rest[..colon]).unwrap();
        read.append(name, HeaderValue::from_bytes(&rest[colon + 2..end]).unwrap());
        rest = &rest[end + 2..];
    }
    assert_eq!((rest, &read), (&b""[..], trailers));
}
