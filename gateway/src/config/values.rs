//! Leaf values: each parses from its TOML form or from a string (as the environment gives it), checks its range,
//! and says what is allowed when it refuses.

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use std::{fmt, marker::PhantomData, str::FromStr, time::Duration};

/// Marks the place in an error where `load` names the variable that a value came from.
pub(super) const ORIGIN_MARK: char = '\u{1}';

fn refuse<E: de::Error>(shown: impl fmt::Display, expected: impl fmt::Display) -> E {
    E::custom(format_args!("{shown} is not valid{ORIGIN_MARK}: expected {expected}"))
}

/// Accepts a string, an integer, a float or a boolean and hands it on as text.
struct Text<'a>(&'a str);

impl<'de> Visitor<'de> for Text<'_> {
    type Value = (String, bool);
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Self::Value, E> {
        Ok((v.to_owned(), true))
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Self::Value, E> {
        Ok((v.to_string(), false))
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Self::Value, E> {
        Ok((v.to_string(), false))
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Self::Value, E> {
        Ok((v.to_string(), false))
    }
    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Self::Value, E> {
        Ok((v.to_string(), false))
    }
}

fn text<'de, D: Deserializer<'de>>(d: D, expected: &str) -> Result<(String, String), D::Error> {
    let (raw, quoted) = d.deserialize_any(Text(expected))?;
    let shown = if quoted { format!("{raw:?}") } else { raw.clone() };
    Ok((raw, shown))
}

/// A size in bytes, 1 to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a whole number of bytes, 1 to 1073741824";
        let (raw, shown) = text(d, EXPECTED)?;
        match raw.parse() {
            Ok(n) if (1..=1 << 30).contains(&n) => Ok(Self(n)),
            _ => Err(refuse(shown, EXPECTED)),
        }
    }
}

/// A count, 1 to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a whole number, 1 to 1000000";
        let (raw, shown) = text(d, EXPECTED)?;
        match raw.parse() {
            Ok(n) if (1..=1_000_000).contains(&n) => Ok(Self(n)),
            _ => Err(refuse(shown, EXPECTED)),
        }
    }
}

/// A duration such as `"250ms"`, `"30s"`, `"5m"` or `"1h"`; 1 ms to 7 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub Duration);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a duration such as \"250ms\", \"30s\", \"5m\" or \"1h\", 1ms to 168h";
        let (raw, shown) = text(d, EXPECTED)?;
        parse_duration(&raw).map(Self).ok_or_else(|| refuse(shown, EXPECTED))
    }
}

fn parse_duration(raw: &str) -> Option<Duration> {
    let split = raw.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = raw.split_at(split);
    let per_unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let millis = number.parse::<u64>().ok()?.checked_mul(per_unit)?;
    (1..=7 * 24 * 3_600_000).contains(&millis).then(|| Duration::from_millis(millis))
}

/// `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch(pub bool);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let (raw, shown) = text(d, "true or false")?;
        raw.parse().map(Self).map_err(|_| refuse(shown, "true or false"))
    }
}

/// A secret of at least 32 bytes. Never printed, not even when it is refused.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Checks the length; surrounding white space (a file's last newline) is no part of a secret.
    pub fn new(raw: &str) -> Result<Self, String> {
        let trimmed = raw.trim();
        match trimmed.len() {
            32.. => Ok(Self(trimmed.to_owned())),
            n => Err(format!("a secret of {n} bytes is not valid{ORIGIN_MARK}: expected at least 32 bytes")),
        }
    }

    /// The secret's bytes, as they are used for signatures.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let (raw, _) = text(d, "a secret of at least 32 bytes")?;
        Self::new(&raw).map_err(de::Error::custom)
    }
}

/// A list: a TOML array, or one string with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: FromStr> Deserialize<'de> for List<T>
where
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: FromStr> Visitor<'de> for Items<T>
        where
            T::Err: fmt::Display,
        {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Self::Value, E> {
                let items = v.split(',').map(str::trim).filter(|s| !s.is_empty());
                items.map(item).collect::<Result<_, E>>().map(List)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut out = Vec::new();
                while let Some(raw) = seq.next_element::<String>()? {
                    out.push(item(&raw)?);
                }
                Ok(List(out))
            }
        }
        fn item<T: FromStr, E: de::Error>(raw: &str) -> Result<T, E>
        where
            T::Err: fmt::Display,
        {
            raw.parse().map_err(|e| refuse(format_args!("{raw:?}"), e))
        }
        d.deserialize_any(Items(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_known_unit_and_a_sane_size() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("1h"), Some(Duration::from_secs(3600)));
        for bad in ["", "30", "30 s", "1.5s", "0s", "-1s", "200h", "99999999999999999999s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_secret_is_trimmed_and_never_shown() {
        let secret = Secret::new(&format!("{}\n", "s".repeat(32))).unwrap();
        assert_eq!(secret.bytes().len(), 32);
        assert!(!format!("{secret:?}").contains("ssss"));
        assert!(!Secret::new("hunter2").unwrap_err().contains("hunter2"));
    }
}
