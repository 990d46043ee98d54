//! Newline-delimited JSON in requests: what it is called, and its lines.

use super::read;
use crate::edge::{Code, Problem};
use bytes::{Bytes, BytesMut};

/// What a request's media type says it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    Document,
    Lines,
}

/// One document, or a stream of lines. Other types are refused, as for a unary method.
pub(super) fn written(headers: &http::HeaderMap) -> Result<Written, Problem> {
    const LINES: [&[u8]; 4] =
        [b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines"];
    if read::essence(headers).is_some_and(|essence| LINES.contains(&essence.as_slice())) {
        return Ok(Written::Lines);
    }
    read::expect_json(headers).map(|()| Written::Document).map_err(|_| {
        let detail = "The body must be application/x-ndjson, or application/json for one message.";
        Problem::new(Code::UnsupportedMediaType, detail)
    })
}

/// Splits what has come into lines.
pub(super) struct Lines {
    buffer: BytesMut,
    /// So much of the buffer has no line end.
    searched: usize,
    /// Of the last line, from 1.
    number: u64,
    limit: usize,
}

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, number: 0, limit }
    }

    /// More has come.
    pub(super) fn extend(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next line that is not blank, with its number; the last one need not be terminated once the body has `ended`.
    pub(super) fn next(&mut self, ended: bool) -> Result<Option<(u64, Bytes)>, Problem> {
        loop {
            let found = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
            let length = found.unwrap_or(self.buffer.len());
            if length > self.limit {
                let detail = format!("Line {} exceeds {} bytes.", self.number + 1, self.limit);
                return Err(Problem::new(Code::BodyTooLarge, detail));
            }
            self.searched = length;
            if found.is_none() && !(ended && length > 0) {
                return Ok(None);
            }
            let mut line = self.buffer.split_to(length + usize::from(found.is_some())).freeze();
            line.truncate(length);
            (self.searched, self.number) = (0, self.number + 1);
            if !line.trim_ascii().is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, limit: usize) -> Result<Vec<(u64, Bytes)>, Problem> {
        let mut lines = Lines::new(limit);
        let mut out = vec![];
        // The worst way for it to come.
        for byte in text.bytes() {
            lines.extend(&[byte]);
            out.extend(lines.next(false)?);
        }
        out.extend(lines.next(true)?);
        assert!(lines.next(true)?.is_none());
        Ok(out)
    }

    #[test]
    fn lines_keep_their_numbers_and_blank_ones_are_passed_over() {
        let found = lines("{}\n\n \r\n{\"a\":1}\r\nx", 20).unwrap();
        let found: Vec<_> = found.iter().map(|(number, line)| (*number, &line[..])).collect();
        assert_eq!(found, [(1, &b"{}"[..]), (4, b"{\"a\":1}\r"), (5, b"x")]);
        assert!(lines("", 20).unwrap().is_empty() && lines("\n\n", 20).unwrap().is_empty());
    }

    #[test]
    fn a_line_is_bounded_before_it_is_whole() {
        assert!(lines("12345\n12345", 5).is_ok());
        let problem = lines("1\n123456", 5).unwrap_err();
        assert_eq!(problem.code(), Code::BodyTooLarge);
        assert!(String::from_utf8(problem.document("")).unwrap().contains("Line 2 exceeds 5 bytes."));
    }
}
