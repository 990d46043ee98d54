//! Reads the TOML file, lays the environment over it, and turns the result into a checked `Config`.
//!
//! `GATEWAY__LIMITS__BODY_BYTES=…` sets `limits.body_bytes`; with `_FILE` behind the name the value is the content
//! of that file. Names are matched to existing keys with everything but letters and digits written as `_`.

use super::{check, schema::Config, values::ORIGIN_MARK, values::Secret};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

const PREFIX: &str = "GATEWAY__";

/// The environment as the configuration sees it; a map, so that tests need not change the process.
pub type Environment = BTreeMap<String, String>;

/// Why a configuration was refused: names the key, the value and what is allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub(super) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Loads `path` with this process's environment laid over it.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|e| ConfigError(format!("{shown}: cannot be read: {e}")))?;
    let base = path.parent().unwrap_or(Path::new("."));
    let environment = std::env::vars().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    parse(&text, base, &environment).map_err(|e| ConfigError(format!("{shown}: {e}")))
}

/// Parses `text`, whose relative paths are relative to `base`.
pub fn parse(text: &str, base: &Path, environment: &Environment) -> Result<Config, ConfigError> {
    let mut table: Table =
        text.parse().map_err(|e: toml::de::Error| ConfigError(e.to_string().trim_end().to_owned()))?;
    let origins = overlay(&mut table, environment)?;
    let mut config: Config =
        serde_path_to_error::deserialize(Value::Table(table)).map_err(|e| explain(&e, &origins))?;
    resolve_paths(&mut config, base);
    read_secrets(&mut config)?;
    check::check(&config)?;
    Ok(config)
}

/// Sets every variable's value in the table; returns which key came from which variable.
fn overlay(table: &mut Table, environment: &Environment) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut origins = BTreeMap::new();
    for (variable, value) in environment {
        let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
        let mut segments: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        if segments.iter().any(String::is_empty) {
            return Err(ConfigError(format!("{variable}: expected {PREFIX}TABLE__KEY")));
        }
        let value = from_file(&mut segments, variable, value)?;
        let mut keys = Vec::new();
        set(table, &segments, value, &mut keys)
            .map_err(|at| ConfigError(format!("{variable}: `{at}` is a value, not a table")))?;
        origins.insert(keys.join("."), variable.clone());
    }
    Ok(origins)
}

/// `…_FILE` reads a file; except for the keys that are themselves files, which take the path.
fn from_file(segments: &mut [String], variable: &str, value: &str) -> Result<String, ConfigError> {
    let Some(last) = segments.last_mut() else { return Ok(value.to_owned()) };
    let Some(stem) = last.strip_suffix("_file") else { return Ok(value.to_owned()) };
    if matches!(stem, "secret" | "hs256_secret") {
        let absolute = std::path::absolute(value).unwrap_or_else(|_| PathBuf::from(value));
        return Ok(absolute.to_string_lossy().into_owned());
    }
    let content = std::fs::read_to_string(value)
        .map_err(|e| ConfigError(format!("{variable}: {value:?} cannot be read: {e}")))?;
    *last = stem.to_owned();
    Ok(content.trim().to_owned())
}

fn set(table: &mut Table, segments: &[String], value: String, keys: &mut Vec<String>) -> Result<(), String> {
    let Some((first, rest)) = segments.split_first() else { return Ok(()) };
    let normalise = |key: &str| {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        key.chars().map(letter).collect::<String>()
    };
    let key = table.keys().find(|key| normalise(key) == *first).cloned().unwrap_or_else(|| first.clone());
    keys.push(key.clone());
    if rest.is_empty() {
        table.insert(key, Value::String(value));
        return Ok(());
    }
    match table.entry(key).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => set(inner, rest, value, keys),
        _ => Err(keys.join(".")),
    }
}

/// `KEY: VALUE is not valid (from VARIABLE): expected …`.
fn explain(
    error: &serde_path_to_error::Error<toml::de::Error>,
    origins: &BTreeMap<String, String>,
) -> ConfigError {
    let path = error.path().to_string();
    let message = error.inner().message().trim().to_owned();
    // An unknown key's error points at its table: the key's own name is in the message.
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let key = match unknown {
        Some(field) if path.ends_with(field) || path == "." => path.trim_matches('.').to_owned(),
        _ => path.clone(),
    };
    let under = |origin: &&String| **origin == key || origin.starts_with(&format!("{key}."));
    let mut candidates = origins.keys().filter(under);
    let origin = match unknown {
        Some(field) => origins.keys().find(|k| k.rsplit('.').any(|part| part == field)),
        None => candidates.next(),
    };
    let from = origin.and_then(|k| origins.get(k)).map(|v| format!(" (from {v})")).unwrap_or_default();
    let marked = message.contains(ORIGIN_MARK);
    let message = message.replace(ORIGIN_MARK, &from);
    let place = if key == "." || key.is_empty() { String::new() } else { format!("{key}: ") };
    ConfigError(if marked { format!("{place}{message}") } else { format!("{place}{message}{from}") })
}

fn resolve_paths(config: &mut Config, base: &Path) {
    let resolve = |path: &mut PathBuf| *path = base.join(&*path);
    config.contracts.paths.0.iter_mut().for_each(resolve);
    config.page.samples.iter_mut().for_each(resolve);
    config.identity.hs256_secret_file.iter_mut().for_each(resolve);
    config.upstreams.values_mut().filter_map(|u| u.secret_file.as_mut()).for_each(resolve);
}

/// Replaces every `secret_file` by the secret it holds.
fn read_secrets(config: &mut Config) -> Result<(), ConfigError> {
    let identity = &mut config.identity;
    take_secret("identity.hs256_secret", &mut identity.hs256_secret, &identity.hs256_secret_file)?;
    for (name, upstream) in &mut config.upstreams {
        take_secret(&format!("upstreams.{name}.secret"), &mut upstream.secret, &upstream.secret_file)?;
    }
    Ok(())
}

fn take_secret(key: &str, secret: &mut Option<Secret>, file: &Option<PathBuf>) -> Result<(), ConfigError> {
    let Some(path) = file else { return Ok(()) };
    if secret.is_some() {
        return Err(ConfigError(format!("{key}: set it or {key}_file, not both")));
    }
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigError(format!("{key}_file: {shown} cannot be read: {e}")))?;
    let from_file = format!(" (from {shown})");
    let parsed = Secret::new(&text)
        .map_err(|e| ConfigError(format!("{key}: {}", e.replace(ORIGIN_MARK, &from_file))))?;
    *secret = Some(parsed);
    Ok(())
}

/// Parses a value of `T` from a TOML fragment, for tests of single tables.
#[cfg(test)]
pub(super) fn fragment<T: for<'de> serde::Deserialize<'de>>(text: &str) -> T {
    toml::from_str(text).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse(text, Path::new("."), &environment)
    }

    fn message(text: &str, variables: &[(&str, &str)]) -> String {
        with(text, variables).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_a_valid_configuration() {
        let config = with("", &[]).unwrap();
        assert_eq!(config.listen.public.to_string(), "127.0.0.1:8080");
        assert!(config.upstreams.is_empty());
    }

    #[test]
    fn a_bad_variable_names_key_value_and_what_is_allowed() {
        assert_eq!(
            message("", &[("GATEWAY__LIMITS__BODY_BYTES", "12mb")]),
            "limits.body_bytes: \"12mb\" is not valid (from GATEWAY__LIMITS__BODY_BYTES): \
             expected a whole number of bytes, 1 to 1073741824"
        );
        assert_eq!(
            message("[limits]\nbody_bytes = 0", &[]),
            "limits.body_bytes: 0 is not valid: expected a whole number of bytes, 1 to 1073741824"
        );
    }

    #[test]
    fn unknown_keys_and_variables_are_errors_that_name_them() {
        assert!(
            message("[limits]\nbodybytes = 1", &[])
                .starts_with("limits.bodybytes: unknown field `bodybytes`")
        );
        let unknown = message("", &[("GATEWAY__LIMIT__X", "1")]);
        assert!(
            unknown.contains("unknown field `limit`") && unknown.contains("(from GATEWAY__LIMIT__X)"),
            "{unknown}"
        );
    }

    #[test]
    fn variables_override_leaves_of_named_tables() {
        let text = "[upstreams.my-ai]\nprotocol = \"grpc\"\naddress = \"127.0.0.1:1\"";
        let config = with(text, &[("GATEWAY__UPSTREAMS__MY_AI__ADDRESS", "127.0.0.1:2")]).unwrap();
        assert_eq!(config.upstreams["my-ai"].address, "127.0.0.1:2");
        let listen = with("", &[("GATEWAY__LISTEN__PUBLIC", "127.0.0.1:0")]).unwrap().listen;
        assert_eq!(listen.public.port(), 0);
        let hosts = with("", &[("GATEWAY__PUBLIC__HOSTS", "a.example, b.example")]).unwrap().public.hosts;
        assert_eq!(hosts.0, ["a.example", "b.example"]);
    }

    #[test]
    fn a_file_variable_reads_the_value_from_the_file() {
        let dir = std::env::temp_dir().join(format!("gateway-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (size, secret) = (dir.join("size"), dir.join("secret"));
        std::fs::write(&size, "77\n").unwrap();
        std::fs::write(&secret, "x".repeat(40)).unwrap();
        let config = with(
            "",
            &[
                ("GATEWAY__LIMITS__BODY_BYTES_FILE", size.to_str().unwrap()),
                ("GATEWAY__IDENTITY__HS256_SECRET_FILE", secret.to_str().unwrap()),
            ],
        );
        std::fs::write(&secret, "short").unwrap();
        let short = message("", &[("GATEWAY__IDENTITY__HS256_SECRET_FILE", secret.to_str().unwrap())]);
        std::fs::remove_dir_all(&dir).unwrap();
        let config = config.unwrap();
        assert_eq!(config.limits.body_bytes.0, 77);
        assert_eq!(config.identity.hs256_secret.unwrap().bytes().len(), 40);
        assert!(
            short.contains("5 bytes") && short.contains("at least 32") && !short.contains("short"),
            "{short}"
        );
    }

    #[test]
    fn a_value_where_a_table_is_needed_is_an_error() {
        let text = message("[public]\nhosts = [\"a\"]", &[("GATEWAY__PUBLIC__HOSTS__X", "1")]);
        assert!(text.contains("GATEWAY__PUBLIC__HOSTS__X") && text.contains("public.hosts"), "{text}");
    }

    #[test]
    fn single_tables_parse() {
        let limits: super::super::Limits = fragment("body_bytes = 5");
        assert_eq!(limits.body_bytes.0, 5);
    }
}
