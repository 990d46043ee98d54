//! Names that nobody can guess, and that never come twice.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

fn random<const N: usize>() -> String {
    let mut bytes = [0; N];
    // Without randomness nothing here is safe: the system gives it, or the process may as well stop.
    getrandom::fill(&mut bytes).unwrap_or_else(|error| panic!("the system gives no random bytes: {error}"));
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A session's name.
pub(crate) fn session() -> String {
    random::<16>()
}

/// An epoch's name.
pub(crate) fn epoch() -> String {
    random::<9>()
}
