//! grpc-gateway and vanguard-go in front of the benchmarks' gRPC upstream: one program, built where the machine has Go.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::contestants::{self, Contestant, root};

/// Where Go's own installer puts it, which is not always on PATH.
const GO_HOME: &str = "/usr/local/go/bin";
/// The contracts to generate code of, by the names that they have in the descriptor set.
const CONTRACTS: [&str; 2] = ["bench.proto", "hybrid/options/v1/access.proto"];
/// The peers by the names that the program knows them by.
const PEERS: [&str; 2] = ["grpc-gateway", "vanguard-go"];

/// Builds and starts them on one thread each; none, and a line that says why, where they cannot be built.
pub(super) fn start(folder: &Path, upstream: u16) -> Result<Vec<Contestant>> {
    let program = match build(folder) {
        Ok(program) => program.display().to_string(),
        Err(why) => {
            println!("{} are left out of `calls`: {why:#}.", PEERS.join(" and "));
            return Ok(Vec::new());
        }
    };
    let env = [("GOMAXPROCS".to_owned(), "1".to_owned())];
    let start = |peer: &'static str| {
        let command = [program.clone(), peer.to_owned(), format!("127.0.0.1:{upstream}")];
        contestants::says_port(peer, &command, &env, &folder.join(format!("{peer}.log")))
    };
    PEERS.into_iter().map(start).collect()
}

/// Where programs are looked for: buf and the pinned Node.js that runs it come first.
fn folders() -> Vec<PathBuf> {
    let mut folders = vec![root().join("services-node/node_modules/.bin")];
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    folders.push(GO_HOME.into());
    folders
}

/// What building needs and `folders` do not have.
fn missing(folders: &[PathBuf]) -> Option<&'static str> {
    let found = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    if !found("go") {
        Some("there is no Go on PATH or in /usr/local/go/bin")
    } else if !found("buf") {
        Some("buf, which generates their code, is not installed (`cargo xtask up` installs it)")
    } else {
        None
    }
}

/// Generates the code from the benchmarks' contract and compiles the program into `folder`.
fn build(folder: &Path) -> Result<PathBuf> {
    let folders = folders();
    if let Some(what) = missing(&folders) {
        bail!(what);
    }
    let path = env::join_paths(&folders)?;
    let (module, set, program) =
        (root().join("xtask/peers/go"), folder.join("contracts.binpb"), folder.join("gopeers"));
    fs::write(&set, contracts()?)?;
    let run = |name: &str, arguments: &[&str]| -> Result<()> {
        // Looked up here: the system would look in this process's PATH.
        let file = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        let mut command = Command::new(file.with_context(|| format!("{name} is not there"))?);
        let output = command.args(arguments).current_dir(&module).env("PATH", &path).output()?;
        let says = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        ensure!(output.status.success(), "`{name} {}` failed: {says}", arguments[0]);
        Ok(())
    };
    let set = set.to_string_lossy();
    run("buf", &["generate", &set, "--path", CONTRACTS[0], "--path", CONTRACTS[1]])?;
    run("go", &["build", "-buildvcs=false", "-o", &program.to_string_lossy(), "."])?;
    Ok(program)
}

/// Runs `go` in a module's folder; an error that says why where it cannot.
pub(super) fn go(module: &Path, arguments: &[&str]) -> Result<()> {
    let found = folders().into_iter().map(|folder| folder.join("go")).find(|file| file.is_file());
    let program = found.context("there is no Go on PATH or in /usr/local/go/bin")?;
    let output = Command::new(program).args(arguments).current_dir(module).output()?;
    let says = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    ensure!(output.status.success(), "`go {}` failed: {says}", arguments[0]);
    Ok(())
}

/// The contracts with all that they import and with their annotations, compiled.
fn contracts() -> Result<Vec<u8>> {
    let includes = [root().join("xtask/peers/proto"), root().join("proto")];
    let mut compiler = protox::Compiler::new(includes)?;
    Ok(compiler.include_imports(true).open_files(CONTRACTS)?.encode_file_descriptor_set())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = [folder.path().to_owned()];
        let says = |word: &str| missing(&folders).is_some_and(|what| what.contains(word));
        assert!(says("no Go on PATH"));
        fs::write(folder.path().join("go"), "").expect("a file");
        assert!(says("buf"));
        fs::write(folder.path().join("buf"), "").expect("a file");
        assert_eq!(missing(&folders), None);
    }

    #[test]
    fn the_contracts_keep_their_annotations() {
        let pool = prost_reflect::DescriptorPool::decode(&*contracts().expect("contracts")).expect("a pool");
        let http = pool.get_extension_by_name("google.api.http").expect("the annotation");
        let echo =
            pool.get_service_by_name("bench.Bench").and_then(|s| s.methods().find(|m| m.name() == "Echo"));
        assert!(echo.expect("the method").options().has_extension(&http));
    }
}
