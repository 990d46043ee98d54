//! Who is in a channel. A session whose connection broke stays for a grace time: one that resumes within it never left.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::proto::{Actor, Member, PresenceChange, PresenceList};

/// The sessions in one channel.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    members: BTreeMap<u64, Present>,
    order: HashMap<Arc<str>, u64>,
    next: u64,
    joined: BTreeMap<u64, Member>,
    left: Vec<String>,
}

/// One of them.
#[derive(Debug)]
struct Present {
    actor: Actor,
    member: Member,
    connection: u64,
    /// Its connection broke.
    gone: bool,
}

impl Presence {
    /// A session comes, or is back on another connection.
    pub(crate) fn enter(&mut self, session: &Arc<str>, actor: Actor, member: Member, connection: u64) {
        if let Some(present) = self.order.get(session).and_then(|order| self.members.get_mut(order)) {
            (present.connection, present.gone) = (connection, false);
            return;
        }
        self.next += 1;
        self.order.insert(session.clone(), self.next);
        self.joined.insert(self.next, member.clone());
        self.members.insert(self.next, Present { actor, member, connection, gone: false });
    }

    /// Its connection broke. False: it is not there, or on another connection.
    pub(crate) fn gone(&mut self, session: &str, connection: u64) -> bool {
        match self.order.get(session).and_then(|order| self.members.get_mut(order)) {
            Some(present) if present.connection == connection => {
                present.gone = true;
                true
            }
            _ => false,
        }
    }

    /// It leaves for good, where it is still on that connection.
    pub(crate) fn leave(&mut self, session: &str, connection: u64) -> Option<Actor> {
        self.remove_if(session, |present| present.connection == connection)
    }

    /// Its grace time is over.
    pub(crate) fn expire(&mut self, session: &str, connection: u64) -> Option<Actor> {
        self.remove_if(session, |present| present.connection == connection && present.gone)
    }

    fn remove_if(&mut self, session: &str, which: impl Fn(&Present) -> bool) -> Option<Actor> {
        let order = *self.order.get(session)?;
        if !which(self.members.get(&order)?) {
            return None;
        }
        self.order.remove(session);
        let present = self.members.remove(&order)?;
        // Who came and went between two flushes was never there.
        if self.joined.remove(&order).is_none() {
            self.left.push(session.into());
        }
        Some(present.actor)
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.joined.is_empty() || !self.left.is_empty()
    }

    /// What changed since the last time.
    pub(crate) fn changes(&mut self, channel: &str) -> PresenceChange {
        let joined = std::mem::take(&mut self.joined).into_values().collect();
        PresenceChange { channel: channel.into(), joined, left: std::mem::take(&mut self.left) }
    }

    pub(crate) fn list(&self, limit: usize) -> PresenceList {
        let members = self.members.values().take(limit).map(|present| present.member.clone()).collect();
        PresenceList { members, total: self.members.len() as u32 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(presence: &mut Presence, session: &str, connection: u64) {
        let member = Member { session: session.into(), ..Default::default() };
        presence.enter(&session.into(), Actor::default(), member, connection);
    }

    #[test]
    fn who_is_back_within_the_grace_time_never_left() {
        let mut presence = Presence::default();
        enter(&mut presence, "a", 1);
        assert_eq!(presence.changes("c").joined.len(), 1);
        assert!(presence.gone("a", 1));
        enter(&mut presence, "a", 2);
        assert_eq!(presence.expire("a", 1), None);
        assert!(!presence.gone("a", 1), "the old connection says nothing about the new one");
        assert!(!presence.has_changes());
        assert!(presence.gone("a", 2));
        assert!(presence.expire("a", 2).is_some());
        assert_eq!(presence.changes("c").left, ["a"]);
        assert!(presence.is_empty());
    }

    #[test]
    fn who_came_and_went_between_two_flushes_is_not_told() {
        let mut presence = Presence::default();
        enter(&mut presence, "a", 1);
        assert!(presence.leave("a", 1).is_some());
        assert!(!presence.has_changes());
    }

    #[test]
    fn lists_are_bounded_and_oldest_first() {
        let mut presence = Presence::default();
        ["c", "a", "b"].iter().for_each(|session| enter(&mut presence, session, 1));
        let list = presence.list(2);
        assert_eq!(list.total, 3);
        assert_eq!(list.members.iter().map(|m| m.session.as_str()).collect::<Vec<_>>(), ["c", "a"]);
    }
}
