//! `cargo xtask`: start, try, test, check and measure the project.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{bench, check, clean, demo, term, test, token, up};

/// The project's commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up, build and start the whole stack; Ctrl-C stops it
    Up(up::Args),
    /// Print a token of the running stack for a user
    Token(token::Args),
    /// Send the samples to the running stack and show what each hop did
    Demo(demo::Args),
    /// Run all suites in all languages, then the black-box tests
    Test(test::Args),
    /// Run every formatter, linter, type check, contract check and layer rule
    Check(check::Args),
    /// Measure side by side with other proxies
    Bench(bench::Args),
    /// Remove what these commands made
    Clean(clean::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Up(args) => up::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args).map(|()| true),
        Command::Clean(args) => clean::run(&args),
    };
    exit_code(result)
}

/// `false`: the command has said itself what failed.
fn exit_code(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            term::status(None);
            anstream::eprintln!("{} {error:#}", term::paint(term::RED, "error:"));
            ExitCode::FAILURE
        }
    }
}
