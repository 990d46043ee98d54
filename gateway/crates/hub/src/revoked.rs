//! Revocations, remembered for as long as tickets live that were issued before.

use std::collections::HashMap;

use crate::proto::Revoke;
use crate::ticket::Claims;

/// How many are remembered by name. Beyond, all tickets that were issued before the newest forgotten one are refused.
const BOUND: usize = 10_000;

/// What was revoked, and when.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    /// By subject, session and channel; empty: any.
    at_ms: HashMap<(String, String, String), u64>,
    /// No ticket that was issued up to then is good.
    floor_ms: u64,
}

impl Revoked {
    pub(crate) fn add(&mut self, revoke: &Revoke, now_ms: u64) {
        if self.at_ms.len() >= BOUND {
            self.at_ms.clear();
            self.floor_ms = now_ms;
        }
        let key = (revoke.subject.clone(), revoke.session.clone(), revoke.channel.clone());
        self.at_ms.insert(key, now_ms);
    }

    /// Whether a ticket's session is revoked, or, with a channel, its subscription to that.
    pub(crate) fn covers(&self, claims: &Claims, channel: &str) -> bool {
        let (subject, session) = (claims.subject.as_str(), claims.session.as_str());
        let fits = |subject: &str, session: &str| {
            let key = (subject.to_owned(), session.to_owned(), channel.to_owned());
            self.at_ms.get(&key).is_some_and(|at| claims.issued_ms <= *at)
        };
        let floor = self.floor_ms > 0 && claims.issued_ms <= self.floor_ms;
        // Subject and session both empty: everybody, which only makes sense with a channel.
        floor || fits(subject, session) || fits(subject, "") || fits("", session) || fits("", "")
    }

    /// Forgets what no ticket can be older than.
    pub(crate) fn sweep(&mut self, before_ms: u64) {
        self.at_ms.retain(|_, at| *at >= before_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(issued_ms: u64) -> Claims {
        Claims { subject: "ann".into(), session: "s1".into(), issued_ms, ..Claims::default() }
    }

    #[test]
    fn a_revocation_covers_what_was_issued_before_it_and_fits_all_it_says() {
        let mut revoked = Revoked::default();
        revoked.add(&Revoke { subject: "ann".into(), ..Default::default() }, 10);
        assert!(revoked.covers(&claims(10), ""));
        assert!(!revoked.covers(&claims(11), ""));
        assert!(!revoked.covers(&Claims { subject: "bob".into(), ..claims(1) }, ""));
        revoked.add(&Revoke { session: "s1".into(), channel: "chat:a".into(), ..Default::default() }, 20);
        assert!(revoked.covers(&claims(15), "chat:a"));
        assert!(!revoked.covers(&claims(15), "chat:b"));
        assert!(!revoked.covers(&claims(15), ""));
        revoked.sweep(15);
        assert!(!revoked.covers(&claims(10), ""));
        assert!(revoked.covers(&claims(15), "chat:a"));
    }

    #[test]
    fn too_many_to_remember_end_all_tickets() {
        let mut revoked = Revoked::default();
        for index in 0..=BOUND {
            revoked.add(&Revoke { subject: index.to_string(), ..Default::default() }, 5);
        }
        assert!(revoked.covers(&claims(5), ""));
        assert!(!revoked.covers(&claims(6), ""));
    }
}
