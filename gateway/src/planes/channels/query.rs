//! Queries of the plain endpoints: known names only, so that a misspelt one is not passed over.

use crate::edge::{Code, Problem};
use percent_encoding::percent_decode_str;

/// The query's pairs in order; a name that is none of `known` is refused.
pub(super) fn pairs(query: Option<&str>, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let query = query.unwrap_or_default();
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| one(pair, known)).collect()
}

fn one(pair: &str, known: &[&str]) -> Result<(String, String), Problem> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let (name, value) = (decoded(name)?, decoded(value)?);
    match known.contains(&name.as_str()) {
        true => Ok((name, value)),
        false => Err(refuse(format!("The query has {name:?}: expected {}.", known.join(", ")))),
    }
}

/// As forms write it: a plus sign is a blank.
fn decoded(text: &str) -> Result<String, Problem> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded.map(Into::into).map_err(|_| refuse("The query is not UTF-8.".into()))
}

/// A number in the query.
pub(super) fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| refuse(format!("{name} is {value:?}: expected a whole number.")))
}

pub(super) fn refuse(detail: String) -> Problem {
    Problem::new(Code::InvalidArgument, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_repeat_and_values_are_decoded() {
        let found = pairs(Some("channel=chat%3Aa&channel=b+c&limit=5&"), &["channel", "limit"]).unwrap();
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, [("channel", "chat:a"), ("channel", "b c"), ("limit", "5")]);
        assert!(pairs(None, &[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refusal = |query: &str| format!("{:?}", pairs(Some(query), &["channel", "limit"]).unwrap_err());
        assert!(refusal("chanel=a").contains("expected channel, limit"));
        assert!(refusal("channel=%ff").contains("UTF-8"));
        assert!(format!("{:?}", number::<u32>("limit", "-1").unwrap_err()).contains("limit is"));
    }
}
