//! Events are kept, in order and up to a bound, until the application has dealt with them. One link of a service gets them
//! all, so that one acknowledgement speaks for everything before it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

use super::{Desk, Inner};
use crate::proto::{AttachResponse, Event, Left, attach_response, event};
use crate::stats::Counters;

/// The events of one service.
#[derive(Debug, Default)]
pub(super) struct Events {
    queue: VecDeque<Event>,
    newest: u64,
    /// The link that gets them, and the newest that it was sent.
    link: Option<(u64, u64)>,
}

impl Desk {
    /// A session left a channel.
    pub(crate) fn left(&self, service: &str, left: Left, bound: usize, counters: &Counters) {
        let mut inner = self.lock();
        let events = inner.events.entry(service.to_owned()).or_default();
        events.newest += 1;
        events.queue.push_back(Event { sequence: events.newest, kind: Some(event::Kind::Left(left)) });
        events.shrink(bound.max(2), counters);
        inner.send_events(service);
    }

    /// A service has dealt with what came up to here.
    pub(crate) fn acknowledge(&self, service: &str, sequence: u64) {
        let mut inner = self.lock();
        if let Some(events) = inner.events.get_mut(service) {
            while events.queue.front().is_some_and(|event| event.sequence <= sequence) {
                events.queue.pop_front();
            }
        }
        inner.send_events(service);
    }

    pub(crate) fn events_waiting(&self) -> usize {
        self.lock().events.values().map(|events| events.queue.len()).sum()
    }
}

impl Events {
    /// Drops the oldest; the first in the queue says how many.
    fn shrink(&mut self, bound: usize, counters: &Counters) {
        while self.queue.len() > bound {
            let count = |event: &Event| match event.kind {
                Some(event::Kind::Lost(count)) => count,
                _ => 1,
            };
            let first = self.queue.pop_front().as_ref().map_or(0, count);
            let Some(second) = self.queue.front_mut() else { break };
            second.kind = Some(event::Kind::Lost(first + count(second)));
            // The first time two are lost: the one that went, and the one whose place is taken to say so.
            counters.events_lost.fetch_add(if first > 1 { 1 } else { 2 }, Relaxed);
        }
    }
}

impl Inner {
    /// Another link gets a service's events, from the oldest on.
    pub(super) fn hand_over_events(&mut self, link: u64) {
        let of_link = |events: &&mut Events| events.link.is_some_and(|(id, _)| id == link);
        self.events.values_mut().filter(of_link).for_each(|events| events.link = None);
    }

    pub(super) fn send_all_events(&mut self) {
        let services: Vec<String> = self
            .events
            .iter()
            .filter(|(_, events)| !events.queue.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        services.iter().for_each(|service| self.send_events(service));
    }

    fn send_events(&mut self, service: &str) {
        let Some(events) = self.events.get_mut(service) else { return };
        if events.link.is_none() {
            let ready =
                |link: &&super::LinkState| link.service == service && link.serves.is_some() && !link.leaving;
            events.link = self.links.iter().find(ready).map(|link| (link.id, 0));
        }
        let Some((id, sent)) = &mut events.link else { return };
        let Some(link) = self.links.iter().find(|link| link.id == *id) else { return };
        let start = events.queue.partition_point(|event| event.sequence <= *sent);
        for event in events.queue.range(start..) {
            let message = AttachResponse { kind: Some(attach_response::Kind::Event(event.clone())) };
            if link.sender.try_send(message).is_err() {
                break;
            }
            *sent = event.sequence;
        }
    }
}
