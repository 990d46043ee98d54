//! Secrets that the processes share: made once per state folder, readable by their owner only.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Services refuse shorter secrets.
const MIN_BYTES: usize = 32;

/// Makes the secrets that do not exist yet in `dir`: 32 random bytes each, as hex.
pub(crate) fn create(dir: &Path, names: &[String]) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    for name in names {
        let path = dir.join(name);
        create_one(&path).with_context(|| format!("cannot make the secret {}", path.display()))?;
    }
    Ok(())
}

fn create_one(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => Ok(file.write_all(random_hex()?.as_bytes())?),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let secret = std::fs::read_to_string(path)?;
            ensure!(
                secret.trim().len() >= MIN_BYTES,
                "it is shorter than {MIN_BYTES} bytes; delete it and it is made again"
            );
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn random_hex() -> Result<String> {
    let mut bytes = [0u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("secrets");
        let names = ["a".to_owned(), "b".to_owned()];
        create(&secrets, &names).unwrap();
        let first = std::fs::read_to_string(secrets.join("a")).unwrap();
        assert_eq!(first.len(), 64);
        assert_ne!(first, std::fs::read_to_string(secrets.join("b")).unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&secrets), mode(&secrets.join("a"))), (0o700, 0o600));
        create(&secrets, &names).unwrap();
        assert_eq!(std::fs::read_to_string(secrets.join("a")).unwrap(), first);
    }

    #[test]
    fn a_short_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "short").unwrap();
        let error = format!("{:#}", create(dir.path(), &["a".to_owned()]).unwrap_err());
        assert!(error.contains("shorter than 32 bytes"), "{error}");
    }
}
