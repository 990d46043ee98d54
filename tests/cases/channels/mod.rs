//! Channels: decisions that come from Python; then bad networks, deploys, restarts, and clients that misbehave. What is
//! smaller here than in `cargo xtask bench jitter|deploy` is the crowd and the time, not what is asserted.

mod abuse;
mod app;
mod churn;
mod decisions;
mod recovery;
mod tickets;

use blackbox::runner::Group;

pub(crate) fn add(group: Group) -> Group {
    [decisions::add, churn::add, recovery::add, tickets::add, abuse::add]
        .into_iter()
        .fold(group, |group, add| add(group))
}
