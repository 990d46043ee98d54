//! `cargo xtask up`: sets up, builds and starts the whole stack, says how to try it, and stops it on Ctrl-C.

mod signals;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::running::Note;
use crate::stack::{Interrupted, Options, Ports, Profile, Stack};
use crate::term::{self, BOLD, DIM, GREEN, paint};
use crate::token;

/// What `cargo xtask up` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Restart a process when its files change (after its build)
    #[arg(long)]
    watch: bool,
    /// Build Rust programs without optimisation: faster to build
    #[arg(long)]
    debug: bool,
    /// Use another port, for example --port public=9000
    #[arg(long = "port", value_name = "NAME=NUMBER", value_parser = parse_port)]
    ports: Vec<(String, u16)>,
    /// Keep secrets and data in another folder
    #[arg(long, value_name = "DIR", default_value = ".state")]
    state: PathBuf,
}

fn parse_port(text: &str) -> Result<(String, u16), String> {
    let (name, number) = text.split_once('=').ok_or("write it as NAME=NUMBER, for example public=9000")?;
    match number.parse::<u16>() {
        Ok(number) if number > 0 => Ok((name.to_owned(), number)),
        _ => Err(format!("{number:?} is not a port from 1 to 65535")),
    }
}

/// Runs until a signal ends it; an error when the stack cannot be started.
pub fn run(args: &Args) -> Result<bool> {
    let began = Instant::now();
    let options = Options {
        profile: Profile::of(args.debug),
        state: args.state.clone(),
        ports: Ports::Manifest(args.ports.iter().cloned().collect::<BTreeMap<_, _>>()),
        ..Options::default()
    };
    let stack = Arc::new(Stack::load(&crate::root(), options)?);
    let ended = signals::listen(Arc::clone(&stack))?;
    match serve(&stack, args, began, &ended) {
        // A signal is how this command ends: whatever it broke off is no error.
        Err(error) if ended.is_set() || error.is::<Interrupted>() => {}
        other => other?,
    }
    term::say(paint(DIM, "stopping …"));
    stack.stop_all();
    term::say("stopped");
    Ok(true)
}

fn serve(stack: &Stack, args: &Args, began: Instant, ended: &signals::Ended) -> Result<()> {
    stack.check_ports()?;
    let names: Vec<_> = stack.names().collect();
    term::say(format_args!("{}  {}", paint(BOLD, "set up"), paint(DIM, names.join(", "))));
    stack.prepare()?;
    term::say(paint(BOLD, "start"));
    stack.start_all()?;
    let _note = Note::write(stack)?;
    welcome(stack, began.elapsed())?;
    if args.watch {
        watch::run(stack, ended)
    } else {
        ended.wait();
        Ok(())
    }
}

/// Says where everything is and what to try.
fn welcome(stack: &Stack, took: Duration) -> Result<()> {
    let admin = stack.url("admin");
    let public = stack.url("public");
    let fetch = async {
        let alice = token::fetch(&admin, "alice", token::SCOPES, 12 * 3600).await?;
        Ok::<_, anyhow::Error>((alice, token::fetch(&admin, "bob", token::SCOPES, 12 * 3600).await?))
    };
    let (alice, bob) = token::runtime()?.block_on(fetch).context("the gateway gave no tokens")?;
    let head = |text: &str| paint(BOLD, format_args!("{text:8}"));
    term::say(format_args!(
        "\n{} in {}; Ctrl-C stops it\n\n\
         {} {public}/                   {}\n\
         {} {public}/app/               {}\n\
         {} {public}/api/openapi.json   {}\n\
         {} {admin}/metrics            {}\n\n\
         {} export ALICE={alice}\n         export BOB={bob}\n\n\
         {} curl -N {public}/v1/assistant:answer --json '{{\"question\": \"What does the gateway do?\"}}'\n         \
         curl {public}/api/notes -H \"authorization: Bearer $ALICE\" --json '{{\"title\": \"Tea\", \"text\": \"The \
         kettle boils at a hundred degrees.\"}}'\n         \
         curl '{public}/v1/search?query=hot+water&collection=notes' -H \"authorization: Bearer $ALICE\"\n         {}\n",
        paint(GREEN, "ready"),
        term::elapsed(took),
        head("page"),
        paint(DIM, "what runs, and the samples"),
        head("people"),
        paint(DIM, "chat and a board; sign in with a token"),
        head("API"),
        paint(DIM, "the notes API's description"),
        head("metrics"),
        paint(DIM, "the gateway's; also /upstreams"),
        head("tokens"),
        head("try"),
        paint(DIM, "or all the samples: cargo xtask demo"),
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_name_and_a_number() {
        assert_eq!(parse_port("public=9000"), Ok(("public".into(), 9000)));
        assert!(parse_port("9000").unwrap_err().contains("NAME=NUMBER"));
        assert!(parse_port("public=0").unwrap_err().contains("1 to 65535"));
        assert!(parse_port("public=99999").unwrap_err().contains("99999"));
    }
}
