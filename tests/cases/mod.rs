//! Every black-box test, by what it is about.

mod alone;
mod browsers;
mod cancellation;
mod catalogue;
mod channels;
mod collab;
mod demo;
mod faults;
mod hops;
mod identity;
mod loss;
mod native_grpc;
mod notes;
mod openai;
mod readme;
mod requests;
mod shutdown;

use blackbox::runner::Group;

/// The groups in the order in which they run. Each has a stack of its own.
pub(crate) fn all() -> Vec<Group> {
    let readers = Group::parallel("stack");
    let readers = [
        requests::add,
        identity::add,
        browsers::add,
        notes::add,
        native_grpc::add,
        hops::add,
        collab::add,
        catalogue::add,
    ]
    .into_iter()
    .fold(readers, |group, add| add(group));
    let faults = [
        demo::add,
        readme::add,
        openai::add,
        hops::add_alone,
        cancellation::add,
        faults::add,
        catalogue::add_faults,
        channels::add,
        shutdown::add,
    ]
    .into_iter()
    .fold(Group::serial("faults"), |group, add| add(group));
    vec![alone::add(Group::gateway_alone("gateway")), readers, faults, loss::add(Group::serial("loss"))]
}
