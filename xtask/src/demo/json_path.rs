//! The part of JSONPath that the samples use: `$.a.b[0][-1][*].c`.

use serde_json::Value;

/// The value at a path; `None` where there is none. After `[*]` the result is an array of all that was found: empty
/// if the array was, but `None` if it had elements and none of them has the rest of the path (a slip in the path).
pub(super) fn get(value: &Value, path: &str) -> Option<Value> {
    let mut found = vec![value.clone()];
    let mut many = false;
    for step in steps(path)? {
        many |= step == Step::All;
        let any = !found.is_empty() && step != Step::All;
        found = found.into_iter().flat_map(|value| take(value, &step)).collect();
        if any && found.is_empty() {
            return None;
        }
    }
    if many { Some(Value::Array(found)) } else { found.pop() }
}

#[derive(Debug, PartialEq)]
enum Step {
    Key(String),
    Index(i64),
    All,
}

/// `None` for a path that is not of this form.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(key) = rest.strip_prefix('.') {
            let end = key.find(['.', '[']).unwrap_or(key.len());
            steps.push(Step::Key(key[..end].to_owned()));
            rest = &key[end..];
        } else {
            let (inner, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(if inner == "*" { Step::All } else { Step::Index(inner.parse().ok()?) });
            rest = after;
        }
    }
    Some(steps)
}

/// Whether a path can be read at all.
pub(super) fn is_valid(path: &str) -> bool {
    steps(path).is_some_and(|steps| !steps.contains(&Step::Key(String::new())))
}

fn take(value: Value, step: &Step) -> Vec<Value> {
    match (value, step) {
        (Value::Object(mut map), Step::Key(key)) => map.remove(key).into_iter().collect(),
        (Value::Array(items), Step::All) => items,
        (Value::Array(mut items), Step::Index(index)) => {
            let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let at = if *index < 0 { len + index } else { *index };
            usize::try_from(at)
                .ok()
                .filter(|at| *at < items.len())
                .map(|at| items.swap_remove(at))
                .into_iter()
                .collect()
        }
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_values() {
        let value = json!({ "a": [{ "b": 1 }, { "b": 2 }, {}], "c": { "d": "x" } });
        assert_eq!(get(&value, "$.c.d"), Some(json!("x")));
        assert_eq!(get(&value, "$.a[1].b"), Some(json!(2)));
        assert_eq!(get(&value, "$.a[-2].b"), Some(json!(2)));
        assert_eq!(get(&value, "$.a[*].b"), Some(json!([1, 2])));
        assert_eq!(get(&value, "$.a[*].x"), None);
        assert_eq!(get(&json!({ "a": [] }), "$.a[*].x"), Some(json!([])));
        assert_eq!(get(&value, "$.a[7]"), None);
        assert_eq!(get(&value, "$.c.nothing"), None);
        assert_eq!(get(&value, "$"), Some(value));
    }

    #[test]
    fn what_is_no_path_is_known() {
        assert!(is_valid("$.a[0].b") && is_valid("$"));
        assert!(!is_valid("a.b") && !is_valid("$a") && !is_valid("$.a[x]") && !is_valid("$..a"));
    }
}
