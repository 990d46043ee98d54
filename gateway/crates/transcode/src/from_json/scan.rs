//! JSON's tokens (RFC 8259), read strictly and without a tree.

use std::borrow::Cow;

use crate::{TranscodeError, to_json::text::clean_prefix};

/// Why the text is not JSON, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Syntax {
    what: &'static str,
    at: usize,
}

impl Syntax {
    /// With line and column, both from 1; columns count bytes.
    pub(crate) fn in_text(self, text: &[u8]) -> TranscodeError {
        let before = &text[..self.at.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        TranscodeError::Syntax { description: self.what.to_owned(), line, column }
    }

    pub(crate) fn not_utf8(at: usize) -> Self {
        Self { what: "the text is not UTF-8", at }
    }
}

/// What the escapes of two characters stand for, by the second one; 0: there is none.
const SHORT: [u8; 256] = {
    let mut table = [0; 256];
    let escapes = b"\"\"\\\\//b\x08f\x0cn\nr\rt\t";
    let mut at = 0;
    while at < escapes.len() {
        table[escapes[at] as usize] = escapes[at + 1];
        at += 2;
    }
    table
};

#[derive(Debug, Clone)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    #[cold]
    fn error<T>(&self, what: &'static str) -> Result<T, Syntax> {
        Err(Syntax { what, at: self.at })
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The same text from another place.
    pub(crate) fn from(&self, at: usize) -> Self {
        Self { text: self.text, at }
    }

    /// The first byte of what comes next, after blanks.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// The first byte of the value that has to come next.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<u8, Syntax> {
        match self.peek() {
            Some(byte) => Ok(byte),
            None => self.error("expected a value, found the end"),
        }
    }

    /// Takes a byte that was peeked at.
    #[inline]
    pub(crate) fn take(&mut self) {
        self.at += 1;
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    pub(crate) fn end(&mut self) -> Result<(), Syntax> {
        if self.peek().is_none() { Ok(()) } else { self.error("expected the end, found more data") }
    }

    /// Whether an object, whose opening bracket has been taken, has another member: then its key.
    #[inline]
    pub(crate) fn key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, Syntax> {
        if self.eat(b'}') {
            return Ok(None);
        }
        if !first && !self.eat(b',') {
            return self.error("expected `,` or `}`");
        }
        if self.peek() != Some(b'"') {
            return self.error(if first { "expected a key or `}`" } else { "expected a key" });
        }
        let key = self.string()?;
        if self.eat(b':') { Ok(Some(key)) } else { self.error("expected `:`") }
    }

    /// Whether an array, whose opening bracket has been taken, has another element.
    #[inline]
    pub(crate) fn element(&mut self, first: bool) -> Result<bool, Syntax> {
        if self.eat(b']') {
            return Ok(false);
        }
        if first || self.eat(b',') { Ok(true) } else { self.error("expected `,` or `]`") }
    }

    /// A string; its opening quote has been peeked at.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Syntax> {
        if let Some(text) = self.plain_string() {
            return Ok(Cow::Borrowed(text));
        }
        let mut text = vec![];
        self.string_into(&mut text)?;
        match String::from_utf8(text) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_) => self.error("the text is not UTF-8"),
        }
    }

    /// A string without escapes; nothing is taken where it has some, or is none.
    #[inline]
    pub(crate) fn plain_string(&mut self) -> Option<&'a str> {
        let start = self.at + 1;
        let end = start + clean_prefix(&self.bytes()[start..]);
        if self.bytes().get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + 1;
        Some(&self.text[start..end])
    }

    /// Appends what a string stands for; its opening quote has been peeked at.
    pub(crate) fn string_into(&mut self, text: &mut Vec<u8>) -> Result<(), Syntax> {
        self.at += 1;
        let clean = clean_prefix(&self.bytes()[self.at..]);
        text.extend_from_slice(&self.bytes()[self.at..self.at + clean]);
        self.at += clean;
        loop {
            match self.bytes().get(self.at) {
                None => return self.error("a string is not closed"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    match self.bytes().get(self.at + 1).map_or(0, |byte| SHORT[usize::from(*byte)]) {
                        0 => {
                            let character = self.unicode()?;
                            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                        }
                        byte => {
                            text.push(byte);
                            self.at += 2;
                        }
                    }
                }
                Some(_) => return self.error("a control character in a string"),
            }
            let clean = clean_prefix(&self.bytes()[self.at..]);
            text.extend_from_slice(&self.bytes()[self.at..self.at + clean]);
            self.at += clean;
        }
    }

    /// `\uXXXX`, or two of them where one is half a character.
    fn unicode(&mut self) -> Result<char, Syntax> {
        let unit = |at: usize| {
            let digits = self.bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
            let valid = digits.iter().all(u8::is_ascii_hexdigit);
            std::str::from_utf8(digits).ok().filter(|_| valid).and_then(|d| u32::from_str_radix(d, 16).ok())
        };
        let decoded = match unit(self.at) {
            Some(high @ 0xd800..0xdc00) => match unit(self.at + 6) {
                Some(low @ 0xdc00..0xe000) => {
                    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).map(|c| (c, 12))
                }
                _ => None,
            },
            Some(code) => char::from_u32(code).map(|c| (c, 6)),
            None => None,
        };
        let Some((character, length)) = decoded else { return self.error("an invalid escape in a string") };
        self.at += length;
        Ok(character)
    }

    /// A number's text, as JSON's grammar has it.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<&'a str, Syntax> {
        let start = self.at;
        match number_prefix(&self.bytes()[start..]) {
            Some(length) => {
                self.at += length;
                Ok(&self.text[start..self.at])
            }
            None => self.error("an invalid number"),
        }
    }

    /// `true`, `false` or `null`.
    #[inline]
    pub(crate) fn literal(&mut self, word: &str) -> Result<(), Syntax> {
        let rest = &self.bytes()[self.at..];
        let ends = rest.get(word.len()).is_none_or(|next| !next.is_ascii_alphanumeric());
        if rest.starts_with(word.as_bytes()) && ends {
            self.at += word.len();
            return Ok(());
        }
        self.error("expected a value")
    }

    /// Passes over a value of any kind; nesting costs a bit of heap, never stack.
    pub(crate) fn skip(&mut self) -> Result<(), Syntax> {
        let mut open: Vec<u8> = vec![];
        let mut first = true;
        loop {
            let complete = match open.last() {
                None => true,
                Some(b'{') => self.key(first)?.is_some(),
                Some(_) => self.element(first)?,
            };
            if complete {
                match self.value()? {
                    bracket @ (b'{' | b'[') => {
                        self.take();
                        open.push(bracket);
                        first = true;
                        continue;
                    }
                    _ => self.skip_scalar()?,
                }
            } else {
                open.pop();
            }
            first = false;
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    fn skip_scalar(&mut self) -> Result<(), Syntax> {
        match self.value()? {
            b'"' => self.string().map(drop),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            _ => self.error("expected a value"),
        }
    }
}

/// How many bytes from the start are a number by JSON's grammar.
pub(crate) fn number_prefix(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let start = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(start);
    if whole == 0 || (whole > 1 && bytes[start] == b'0') {
        return None;
    }
    let mut at = start + whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        at = (fraction > 0).then_some(at + 1 + fraction)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        at = (exponent > 0).then_some(at + 1 + sign + exponent)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(text: &str) -> Result<(), Syntax> {
        let mut scanner = Scanner::new(text);
        scanner.skip()?;
        scanner.end()
    }

    #[test]
    fn what_serde_json_accepts_is_accepted_and_nothing_else() {
        for text in [
            "{}",
            "[]",
            " [ 1 , 2.5e-3 , -0 , 0.0 ] ",
            r#"{"a":{"b":[null,true,false,"x"]},"c":1E+9}"#,
            "\"\"",
            r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#,
            "\"\u{7f}é\"",
            "1",
            "null",
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "[1 2]",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "01",
            "-",
            "-01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "0x1",
            "1_0",
            "NaN",
            "nul",
            "nulll",
            "tru",
            "truee",
            "[truefalse]",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\n\"",
            "\"\u{1}\"",
            "1 2",
            "{}{}",
            "[]]",
            "'a'",
            "[\u{a0}1]",
            "//",
            "\u{feff}1",
            "]",
            "}",
            ",",
            ":",
        ] {
            let theirs = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(skipped(text).is_ok(), theirs, "{text:?}: {:?}", skipped(text));
        }
    }

    #[test]
    fn strings_mean_what_serde_json_says() {
        for text in
            [r#""plain""#, r#""a\"b\\c\/d\n\u0041\u00e9\ud83d\ude00 tail""#, r#""\u0000""#, "\"日本\\t語\""]
        {
            let read = Scanner::new(text).string().unwrap();
            assert_eq!(read, serde_json::from_str::<String>(text).unwrap());
        }
    }

    #[test]
    fn nesting_without_end_needs_no_stack() {
        let text = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(skipped(&text), Ok(()));
    }
}
