//! stub
use anyhow::Result;
/// a
#[derive(Debug, clap::Args)]
pub struct Args {}
/// a
pub fn run(_: &Args) -> Result<bool> {
    Ok(true)
}
