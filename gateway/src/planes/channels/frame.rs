//! WebSocket frames (RFC 6455, section 5) without a socket: bytes go in as they come, messages come out. What lies
//! whole in the bytes is handed on where it is; a buffer exists only while something is cut. The library that the
//! contracts' sockets use keeps two buffers for each connection, and copies each message for each socket.

use bytes::{BufMut, Bytes, BytesMut};

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// The longest payload of a control frame.
const CONTROL: usize = 125;

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// A message of text, which is UTF-8.
    Text(&'a [u8]),
    /// A message of bytes.
    Binary(&'a [u8]),
    /// To be answered with the same content.
    Ping(&'a [u8]),
    /// An answer that nobody asked for, perhaps.
    Pong,
    /// Nothing more will come; with the client's code.
    Close(Option<u16>),
}

/// Why a client's bytes cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They are no frames as the protocol has them.
    Protocol(&'static str),
    /// Text that is not UTF-8.
    NotUtf8,
    /// A message is longer than the limit.
    TooLarge,
}

/// Reads a client's frames.
#[derive(Default)]
pub(super) struct Reader {
    /// A head that is cut.
    head: [u8; 14],
    held: u8,
    frame: Option<Frame>,
    /// Whether the message under way is text; none is under way between messages.
    text: Option<bool>,
    /// The message under way, where it is cut.
    message: Vec<u8>,
    /// How much of it is known to be UTF-8.
    checked: usize,
    /// A control frame's payload, where it is cut.
    control: Vec<u8>,
}

/// A frame whose payload is not all there.
#[derive(Clone, Copy)]
struct Frame {
    opcode: u8,
    fin: bool,
    mask: [u8; 4],
    left: usize,
}

impl Reader {
    /// Reads what came, and unmasks it in place. Messages longer than `limit` are a fault as soon as their length shows.
    pub(super) fn read<E: From<Fault>>(
        &mut self,
        mut bytes: &mut [u8],
        limit: usize,
        mut heard: impl FnMut(Heard<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.begin(&mut bytes, limit)? {
                    Some(frame) => frame,
                    None => return Ok(()),
                },
            };
            let (payload, rest) = bytes.split_at_mut(frame.left.min(bytes.len()));
            bytes = rest;
            unmask(payload, frame.mask);
            frame.mask.rotate_left(payload.len() % 4);
            frame.left -= payload.len();
            if frame.opcode >= CLOSE {
                self.control(frame, payload, &mut heard)?;
            } else {
                self.data(frame, payload, &mut heard)?;
            }
            if frame.left > 0 {
                self.frame = Some(frame);
            }
        }
        Ok(())
    }

    /// Takes a head off the bytes; none where it is cut.
    fn begin(&mut self, bytes: &mut &mut [u8], limit: usize) -> Result<Option<Frame>, Fault> {
        loop {
            let held = usize::from(self.held);
            let need = needed(&self.head[..held])?;
            if held == need {
                self.held = 0;
                return self.open(need, limit).map(Some);
            }
            let taken = (need - held).min(bytes.len());
            if taken == 0 {
                return Ok(None);
            }
            let (first, rest) = std::mem::take(bytes).split_at_mut(taken);
            self.head[held..held + taken].copy_from_slice(first);
            self.held += taken as u8;
            *bytes = rest;
        }
    }

    /// Makes a frame of a whole head, if it may come now.
    fn open(&mut self, size: usize, limit: usize) -> Result<Frame, Fault> {
        let (opcode, fin) = (self.head[0] & 0x0f, self.head[0] & FIN != 0);
        let length = match self.head[1] & !MASKED {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => u64::from_be_bytes(*self.head[2..].first_chunk().unwrap_or(&[0xff; 8])),
            short => u64::from(short),
        };
        if length >> 63 != 0 {
            return Err(Fault::Protocol("a frame's length has its highest bit set"));
        }
        match (opcode, self.text) {
            (CONTINUATION, None) => {
                return Err(Fault::Protocol("a continuation without a message"));
            }
            (TEXT | BINARY, Some(_)) => return Err(Fault::Protocol("a message within a message")),
            (TEXT | BINARY, None) => self.text = Some(opcode == TEXT),
            _ => {}
        }
        let so_far = if opcode < CLOSE { self.message.len() } else { 0 };
        let left = usize::try_from(length).map_err(|_| Fault::TooLarge)?;
        if opcode < CLOSE && left > limit.saturating_sub(so_far) {
            return Err(Fault::TooLarge);
        }
        let mask = *self.head[..size].last_chunk().unwrap_or(&[0; 4]);
        Ok(Frame { opcode, fin, mask, left })
    }

    fn data<E: From<Fault>>(
        &mut self,
        frame: Frame,
        payload: &[u8],
        heard: &mut impl FnMut(Heard<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let text = self.text == Some(true);
        let last = frame.fin && frame.left == 0;
        let message = |whole| if text { Heard::Text(whole) } else { Heard::Binary(whole) };
        if last && self.message.is_empty() {
            if text && std::str::from_utf8(payload).is_err() {
                return Err(Fault::NotUtf8.into());
            }
            self.text = None;
            return heard(message(payload));
        }
        self.message.extend_from_slice(payload);
        if text {
            self.check(last)?;
        }
        if last {
            (self.text, self.checked) = (None, 0);
            return heard(message(&std::mem::take(&mut self.message)));
        }
        Ok(())
    }

    /// Looks at what came of a text, so that what is wrong is known before its end.
    fn check(&mut self, last: bool) -> Result<(), Fault> {
        match std::str::from_utf8(&self.message[self.checked..]) {
            Ok(good) => self.checked += good.len(),
            Err(error) if last || error.error_len().is_some() => return Err(Fault::NotUtf8),
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }

    fn control<E: From<Fault>>(
        &mut self,
        frame: Frame,
        payload: &[u8],
        heard: &mut impl FnMut(Heard<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if frame.left > 0 || !self.control.is_empty() {
            self.control.extend_from_slice(payload);
            if frame.left > 0 {
                return Ok(());
            }
        }
        let held = std::mem::take(&mut self.control);
        let whole = if held.is_empty() { payload } else { &held };
        match frame.opcode {
            PING => heard(Heard::Ping(whole)),
            PONG => heard(Heard::Pong),
            _ => {
                let code = close_code(whole)?;
                heard(Heard::Close(code))
            }
        }
    }
}

/// How long a head is that begins so; what cannot be one is refused as soon as it shows.
fn needed(head: &[u8]) -> Result<usize, Fault> {
    let &[first, second, ..] = head else {
        return Ok(2);
    };
    let opcode = first & 0x0f;
    if first & 0x70 != 0 {
        return Err(Fault::Protocol("a reserved bit is set, and no extension was agreed on"));
    }
    if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(Fault::Protocol("an unknown opcode"));
    }
    if second & MASKED == 0 {
        return Err(Fault::Protocol("a client's frame is not masked"));
    }
    let length = second & !MASKED;
    if opcode >= CLOSE && (first & FIN == 0 || usize::from(length) > CONTROL) {
        return Err(Fault::Protocol("a control frame is fragmented or too long"));
    }
    Ok(match length {
        126 => 8,
        127 => 14,
        _ => 6,
    })
}

/// The code of a close frame (RFC 6455, section 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(Fault::Protocol("a close frame with half a code")),
        };
    };
    if std::str::from_utf8(reason).is_err() {
        return Err(Fault::NotUtf8);
    }
    match u16::from_be_bytes(*code) {
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => Ok(Some(code)),
        _ => Err(Fault::Protocol("a close code that nobody may send")),
    }
}

/// Eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (eights, rest) = payload.as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The answer to a ping.
pub(super) fn pong(payload: &[u8]) -> Bytes {
    control_frame(PONG, payload)
}

/// A close frame; the reason is cut to what fits.
pub(super) fn close(code: u16, reason: &str) -> Bytes {
    let mut end = reason.len().min(CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    control_frame(CLOSE, &[&code.to_be_bytes(), &reason.as_bytes()[..end]].concat())
}

fn control_frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(2 + payload.len());
    frame.put_u8(FIN | opcode);
    frame.put_u8(payload.len() as u8);
    frame.put_slice(payload);
    frame.freeze()
}

#[cfg(test)]
mod tests;
