//! Where a reader of an event stream is, as its `Last-Event-ID`: the resuming part of a Connect, in base64.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message;

use crate::outbox::Place;
use crate::proto::{Connect, Position, Resume};

/// The ticket and the places of what was taken so far.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    ticket: String,
    channels: BTreeMap<Arc<str>, (Arc<str>, u64)>,
}

impl Positions {
    pub(crate) fn apply(&mut self, place: &Place) {
        match place {
            Place::At(channel, epoch, offset) => {
                self.channels.insert(channel.clone(), (epoch.clone(), *offset));
            }
            Place::Left(channel) => {
                self.channels.remove(channel);
            }
            Place::Ticket(ticket) => self.ticket.clone_from(ticket),
            Place::All(places) => places.iter().for_each(|place| self.apply(place)),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        let resume = self.channels.iter().map(|(channel, (epoch, offset))| Resume {
            channel: channel.to_string(),
            from: (!epoch.is_empty()).then(|| Position { epoch: epoch.to_string(), offset: *offset }),
        });
        let connect = Connect { ticket: self.ticket.clone(), resume: resume.collect(), ..Connect::default() };
        BASE64_URL_SAFE_NO_PAD.encode(connect.encode_to_vec())
    }
}

/// The ticket and places that a `Last-Event-ID` says. None: it is not one.
pub(crate) fn parse(text: &str) -> Option<(String, Vec<Resume>)> {
    let connect = Connect::decode(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?[..]).ok()?;
    (!connect.ticket.is_empty()).then_some((connect.ticket, connect.resume))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_as_they_were() {
        let mut positions = Positions::default();
        positions.apply(&Place::All(vec![
            Place::Ticket("t".into()),
            Place::At("chat:a".into(), "e".into(), 7),
            Place::At("live:b".into(), "".into(), 0),
            Place::At("chat:c".into(), "e".into(), 9),
        ]));
        positions.apply(&Place::Left("chat:c".into()));
        let (ticket, resume) = parse(&positions.to_text()).expect("it is one");
        assert_eq!(ticket, "t");
        assert_eq!(resume.len(), 2);
        assert_eq!(resume[0].from, Some(Position { epoch: "e".into(), offset: 7 }));
        assert_eq!(resume[1].from, None);
        assert_eq!(parse("42"), None);
        assert_eq!(parse(""), None);
    }
}
