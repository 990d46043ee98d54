//! `ai-call`: Embed as JSON through the gateway beside the same call straight to Python over gRPC.

use anyhow::{Result, bail};

use super::{Plan, report::Table};

/// Runs both concurrencies.
pub(super) fn run(_plan: &Plan) -> Result<Vec<Table>> {
    bail!("not available")
}
