//! The paths of a `google.protobuf.FieldMask`: snake_case in the message, lowerCamelCase in JSON.

/// Appends a path as JSON spells it. None: it could not be read back.
pub(crate) fn to_json(path: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut bytes = path.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'_' => out.push(bytes.next().filter(|next| next.is_ascii_lowercase())?.to_ascii_uppercase()),
            b'.' | b'a'..=b'z' | b'0'..=b'9' => out.push(byte),
            _ => return None,
        }
    }
    Some(())
}

/// Appends a path as the message spells it. None: it is not what JSON spells so.
pub(crate) fn from_json(path: &str, out: &mut Vec<u8>) -> Option<()> {
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' => out.extend_from_slice(&[b'_', byte.to_ascii_lowercase()]),
            b'.' | b'a'..=b'z' | b'0'..=b'9' => out.push(byte),
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_change_their_case_and_back_or_are_refused() {
        for (message, json) in [("a", "a"), ("foo_bar", "fooBar"), ("a_b.c_d1", "aB.cD1"), ("", "")] {
            let mut out = vec![];
            assert_eq!(to_json(message.as_bytes(), &mut out), Some(()));
            assert_eq!(out, json.as_bytes());
            out.clear();
            assert_eq!(from_json(json, &mut out), Some(()));
            assert_eq!(out, message.as_bytes());
        }
        for path in ["fooBar", "foo__bar", "foo_3", "foo_", "foo-bar", "é"] {
            assert_eq!(to_json(path.as_bytes(), &mut vec![]), None, "{path}");
        }
        for path in ["foo_bar", "foo-bar", "foo bar"] {
            assert_eq!(from_json(path, &mut vec![]), None, "{path}");
        }
    }
}
