//! The bytes of a collaborative editor: Hocuspocus messages around the Yjs sync protocol, as much of both as one
//! insertion into a new text needs (yjs/y-protocols `PROTOCOL.md`, yjs `INTERNALS.md`).

use anyhow::{Context, Result};

const SYNC: u64 = 0;
const AUTH: u64 = 2;
const STATELESS: u64 = 5;
const SYNC_STATUS: u64 = 8;

/// A message from the server, as far as it concerns the demo.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Authenticated,
    PermissionDenied(String),
    /// The server asks for what it lacks.
    SyncStep1,
    /// What this editor lacks, or what another editor did.
    Update(Vec<u8>),
    /// The server has applied this editor's last change, or not.
    Acknowledged(bool),
    Stateless(String),
    Other(u64),
}

/// Asks to open a document; who asks is known to the server from the upgrade, so the token says nothing more.
pub(super) fn authenticate(document: &str) -> Vec<u8> {
    Writer::message(document, AUTH).number(0).text("-").text("4.0.0").0
}

/// Asks for everything: this editor's state is empty.
pub(super) fn sync_step_1(document: &str) -> Vec<u8> {
    Writer::message(document, SYNC).number(0).bytes(&[0]).0
}

/// Answers the server's question: this editor has nothing that the server lacks.
pub(super) fn sync_step_2(document: &str) -> Vec<u8> {
    Writer::message(document, SYNC).number(1).bytes(&[0, 0]).0
}

/// Inserts `text` at the start of the shared text `field`, as the editor `client`'s first change.
pub(super) fn insert(document: &str, client: u64, field: &str, text: &str) -> Vec<u8> {
    // One client with one struct at clock 0: a string without neighbours (info 4), whose parent is the
    // root type `field`; nothing deleted.
    let update =
        Writer::default().number(1).number(1).number(client).number(0).number(4).number(1).text(field);
    let update = update.text(text).number(0).0;
    Writer::message(document, SYNC).number(2).bytes(&update).0
}

/// Reads a message of the server.
pub(super) fn read(bytes: &[u8]) -> Result<Message> {
    let mut reader = Reader(bytes);
    let parsed = (|| {
        reader.bytes()?; // the document's name
        Some(match reader.number()? {
            SYNC => match reader.number()? {
                0 => Message::SyncStep1,
                _ => Message::Update(reader.bytes()?.to_vec()),
            },
            AUTH => match reader.number()? {
                1 => Message::PermissionDenied(reader.text()?),
                2 => Message::Authenticated,
                other => Message::Other(other),
            },
            STATELESS => Message::Stateless(reader.text()?),
            SYNC_STATUS => Message::Acknowledged(reader.number()? == 1),
            other => Message::Other(other),
        })
    })();
    parsed.with_context(|| format!("a message of {} bytes cannot be read", bytes.len()))
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn message(document: &str, kind: u64) -> Self {
        Self::default().text(document).number(kind)
    }

    /// Seven bits a byte, the lowest first.
    fn number(mut self, mut value: u64) -> Self {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let mut this = self.number(bytes.len() as u64);
        this.0.extend_from_slice(bytes);
        this
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insertion_is_what_yjs_writes() {
        // Y.Doc with clientID 300, getText("text").insert(0, "hi"), encodeStateAsUpdate, as yjs 13.6 gives it.
        let update = [1, 1, 0xac, 2, 0, 4, 1, 4, b't', b'e', b'x', b't', 2, b'h', b'i', 0];
        let message = insert("d", 300, "text", "hi");
        assert_eq!(message[..5], [1, b'd', 0, 2, update.len() as u8]);
        assert_eq!(message[5..], update);
        assert_eq!(read(&message).unwrap(), Message::Update(update.to_vec()));
    }

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(read(&sync_step_1("d")).unwrap(), Message::SyncStep1);
        assert_eq!(read(&[1, b'd', 2, 2, 0]).unwrap(), Message::Authenticated);
        assert_eq!(read(&[1, b'd', 2, 1, 1, b'x']).unwrap(), Message::PermissionDenied("x".into()));
        assert_eq!(read(&[1, b'd', 5, 2, b'{', b'}']).unwrap(), Message::Stateless("{}".into()));
        assert_eq!(read(&[1, b'd', 8, 1]).unwrap(), Message::Acknowledged(true));
        assert_eq!(read(&[1, b'd', 1, 0]).unwrap(), Message::Other(1));
    }

    #[test]
    fn a_cut_message_is_an_error() {
        assert!(read(&[5, b'd']).is_err() && read(&[]).is_err() && read(&[0xff; 12]).is_err());
    }
}
