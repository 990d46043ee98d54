//! The hub as a whole, without transports, in virtual time.

mod limits;
mod links;
mod presence;
mod recovery;
mod sessions;
