//! Where the demo's tokens come from: the development issuer of a local stack, the gateway of a composed one, or
//! the identity secret where the demo runs inside that stack.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::running::Running;
use crate::token::{SCOPES, fetch};

/// Names a file with the gateway's identity secret; the composed stack's demo container has it.
const SECRET_FILE: &str = "DEMO_IDENTITY_SECRET_FILE";

/// One token for each user of the samples.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Alice's.
    pub alice: String,
    /// Bob's.
    pub bob: String,
}

impl Tokens {
    /// From wherever this process can have them.
    pub(super) async fn get(root: &Path, compose: bool) -> Result<Self> {
        if let Some(file) = std::env::var_os(SECRET_FILE) {
            let secret = std::fs::read_to_string(&file).with_context(|| format!("{SECRET_FILE}={file:?}"))?;
            return Ok(Self { alice: sign(secret.trim(), "alice")?, bob: sign(secret.trim(), "bob")? });
        }
        if compose {
            return Ok(Self { alice: from_container(root, "alice")?, bob: from_container(root, "bob")? });
        }
        let admin = Running::url(root, "admin")?;
        let ttl = 3600;
        Ok(Self {
            alice: fetch(&admin, "alice", SCOPES, ttl).await?,
            bob: fetch(&admin, "bob", SCOPES, ttl).await?,
        })
    }
}

fn sign(secret: &str, subject: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "iss": "hybrid-dev", "aud": "hybrid", "sub": subject, "scope": SCOPES, "iat": now, "exp": now + 3600,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).context("cannot sign a token")
}

fn from_container(root: &Path, subject: &str) -> Result<String> {
    let mut command = Command::new("docker");
    command
        .args(["compose", "exec", "-T", "gateway", "gateway", "token", "--sub", subject, "--scope", SCOPES]);
    let output = command.current_dir(root).output().context("cannot run docker compose")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the composed gateway gave no token: {}", said.trim());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn a_signed_token_has_the_claims_that_the_gateway_checks() {
        let token = sign("0123456789abcdef0123456789abcdef", "alice").unwrap();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&["hybrid"]);
        validation.set_issuer(&["hybrid-dev"]);
        let key = DecodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
        let claims = decode::<serde_json::Value>(&token, &key, &validation).unwrap().claims;
        assert_eq!((claims["sub"].as_str(), claims["scope"].as_str()), (Some("alice"), Some(SCOPES)));
    }
}
