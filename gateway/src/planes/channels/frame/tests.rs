//! The reader against frames that another implementation wrote, whole and cut at every byte, and against wrong ones.

use super::*;
use std::io::{self, Read, Write};
use tokio_tungstenite::tungstenite::{
    Message, Utf8Bytes, WebSocket,
    protocol::{CloseFrame, Role, frame::coding::CloseCode},
};

const LIMIT: usize = 70_000;

/// What was heard, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

fn owned(heard: &Heard<'_>) -> Said {
    match *heard {
        Heard::Text(text) => Said::Text(String::from_utf8(text.to_vec()).unwrap()),
        Heard::Binary(bytes) => Said::Binary(bytes.to_vec()),
        Heard::Ping(payload) => Said::Ping(payload.to_vec()),
        Heard::Pong => Said::Pong,
        Heard::Close(code) => Said::Close(code),
    }
}

/// Reads the pieces one after the other.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Said>, Fault> {
    let (mut reader, mut said) = (Reader::default(), vec![]);
    for piece in pieces {
        reader.read(&mut piece.to_vec(), LIMIT, |heard| {
            said.push(owned(&heard));
            Ok::<_, Fault>(())
        })?;
    }
    assert!(reader.message.capacity() == 0 || reader.text.is_some(), "nothing is kept between messages");
    Ok(said)
}

/// Where a client writes to.
#[derive(Default)]
struct Written(Vec<u8>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Written {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Masked frames as tungstenite writes them.
fn written(messages: impl IntoIterator<Item = Message>) -> Vec<u8> {
    let mut client = WebSocket::from_raw_socket(Written::default(), Role::Client, None);
    for message in messages {
        client.send(message).unwrap();
    }
    std::mem::take(&mut client.get_mut().0)
}

/// A frame by hand, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(MASKED | short as u8),
        long => {
            frame.push(MASKED | 126);
            frame.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[test]
fn what_a_client_writes_is_read_wherever_it_is_cut() {
    let close = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("bye") };
    let bytes = written([
        Message::text("früh"),
        Message::binary((0..300u32).map(|n| n as u8).collect::<Vec<_>>()),
        Message::text(""),
        Message::Ping(Bytes::from_static(b"are you there")),
        Message::Pong(Bytes::new()),
        Message::Close(Some(close)),
    ]);
    let expected = read([&bytes[..]]).unwrap();
    assert_eq!(expected[0], Said::Text("früh".into()));
    assert_eq!(
        expected[2..],
        [
            Said::Text(String::new()),
            Said::Ping(b"are you there".to_vec()),
            Said::Pong,
            Said::Close(Some(1000)),
        ]
    );
    for cut in 0..=bytes.len() {
        let (first, rest) = bytes.split_at(cut);
        assert_eq!(read([first, rest]).unwrap(), expected, "cut at {cut}");
    }
    assert_eq!(read(bytes.chunks(1)).unwrap(), expected, "byte by byte");
    assert_eq!(read(bytes.chunks(7)).unwrap(), expected);
}

#[test]
fn long_lengths_are_read() {
    let long: Vec<u8> = (0..69_999u32).map(|n| (n % 251) as u8).collect();
    let bytes = written([Message::binary(long.clone())]);
    assert_eq!(bytes[1], MASKED | 127);
    for pieces in [bytes.chunks(1000), bytes.chunks(bytes.len())] {
        assert_eq!(read(pieces).unwrap(), [Said::Binary(long.clone())]);
    }
}

#[test]
fn fragments_become_one_message_with_control_frames_between_them() {
    let text = "aé€😀".as_bytes();
    let bytes = [
        frame(TEXT, &text[..2]),
        frame(FIN | PING, b"p"),
        frame(CONTINUATION, &text[2..5]),
        frame(CONTINUATION, b""),
        frame(FIN | CONTINUATION, &text[5..]),
        frame(FIN | BINARY, b"next"),
    ]
    .concat();
    let expected = [Said::Ping(b"p".to_vec()), Said::Text("aé€😀".into()), Said::Binary(b"next".to_vec())];
    for cut in 0..bytes.len() {
        let (first, rest) = bytes.split_at(cut);
        assert_eq!(read([first, rest]).unwrap(), expected, "cut at {cut}");
    }
}

#[test]
fn what_is_no_frame_is_refused_as_soon_as_it_shows() {
    let refused = |bytes: &[u8]| matches!(read([bytes]), Err(Fault::Protocol(_)));
    assert!(refused(&[FIN | TEXT, 5]), "not masked");
    assert!(refused(&[FIN | 0x40 | TEXT, MASKED]), "a reserved bit");
    assert!(refused(&[FIN | 3, MASKED]) && refused(&[FIN | 11, MASKED]), "an unknown opcode");
    assert!(refused(&[PING, MASKED]), "a fragmented ping");
    assert!(refused(&[FIN | PING, MASKED | 126]), "a long ping");
    assert!(refused(&frame(FIN | CONTINUATION, b"")), "nothing to continue");
    assert!(refused(&[frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat()), "a message within one");
    assert!(refused(&frame(FIN | CLOSE, b"x")), "half a code");
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        assert!(refused(&frame(FIN | CLOSE, &code.to_be_bytes())), "{code}");
    }
    let endless = [&[FIN | BINARY, MASKED | 127][..], &[0xff; 8], &[0; 4]].concat();
    assert!(refused(&endless), "the highest bit of a length");
}

#[test]
fn text_is_utf8_to_its_last_byte_and_what_is_not_shows_at_once() {
    assert_eq!(read([&frame(FIN | TEXT, b"\xc3\x28")[..]]), Err(Fault::NotUtf8));
    assert_eq!(read([&frame(FIN | TEXT, b"\xe2\x82")[..]]), Err(Fault::NotUtf8), "cut in a character");
    assert_eq!(read([&frame(TEXT, b"ok \xff")[..]]), Err(Fault::NotUtf8), "before the message ends");
    let cut = [frame(TEXT, b"\xe2"), frame(FIN | CONTINUATION, b"\x82")].concat();
    assert_eq!(read([&cut[..]]), Err(Fault::NotUtf8));
    let reason = [&1000u16.to_be_bytes()[..], b"\xff"].concat();
    assert_eq!(read([&frame(FIN | CLOSE, &reason)[..]]), Err(Fault::NotUtf8));
    assert!(read([&frame(FIN | BINARY, b"\xff")[..]]).is_ok());
}

#[test]
fn what_is_too_long_is_refused_by_its_head() {
    let head = [&[FIN | BINARY, MASKED | 127][..], &(LIMIT as u64 + 1).to_be_bytes(), &[0; 4]].concat();
    assert_eq!(read([&head[..]]), Err(Fault::TooLarge));
    let part = frame(BINARY, &vec![0; 60_000]);
    let more = frame(FIN | CONTINUATION, &vec![0; 10_001]);
    assert_eq!(read([&part[..], &more[..8]]), Err(Fault::TooLarge), "the fragments together");
    let enough = frame(FIN | CONTINUATION, &vec![0; 10_000]);
    assert_eq!(read([&part[..], &enough]).unwrap().len(), 1);
}

#[test]
fn a_clients_library_understands_what_is_written() {
    struct Given(io::Cursor<Vec<u8>>);
    impl Read for Given {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }
    impl Write for Given {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let long = "é".repeat(100);
    let bytes = [pong(b"x"), close(4000, &long)].concat();
    let mut client = WebSocket::from_raw_socket(Given(io::Cursor::new(bytes)), Role::Client, None);
    assert_eq!(client.read().unwrap(), Message::Pong(Bytes::from_static(b"x")));
    let Message::Close(Some(frame)) = client.read().unwrap() else { panic!("no close frame") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4000, &long[..122]));
}
