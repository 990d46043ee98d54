//! An application of the tests' own on the running gateway's link, beside Node.js, with namespaces of its own.

use std::time::Duration;

use anyhow::{Result, bail};
use blackbox::{Sut, wait::within};
use serde_json::{Value, json};
use xtask::bench::channels::{
    link::{self, App, Hello, Namespace},
    user::{Failure, User},
    wire::{Ask, Connect, Encoding, Position, Publication, Published, Said, Subscribe, Subscribed},
};

/// For anything that should come at once.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// `bench:` is asked about; `open:` is everybody's.
fn hello() -> Hello {
    let open = Namespace { subscribe: link::ALLOW, publish: link::ALLOW, ..link::namespace("open") };
    link::hello("tests", vec![link::namespace("bench"), open])
}

/// Attaches as the service that the gateway lets in.
pub(super) async fn attach(sut: &Sut) -> Result<App> {
    let secret = sut.secret("realtime")?;
    let address = sut.address("internal");
    let attaching = App::attach(&address, "realtime", &secret, hello(), link::yes());
    within("the link", SOON, attaching).await
}

/// Connects without a name.
pub(super) async fn anonymous(sut: &Sut) -> Result<User> {
    let address = sut.address("public");
    let connecting = User::connect(&address, Encoding::Protobuf, Connect::default());
    within("a connection", SOON, async { Ok(connecting.await?) }).await
}

/// Subscribes from a place on.
pub(super) async fn subscribe(
    user: &mut User,
    channel: &str,
    from: Option<Position>,
) -> Result<Subscribed, Failure> {
    match user.ask(Ask::Subscribe(Subscribe { channel: channel.into(), from })).await? {
        Said::Subscribed(subscribed) => Ok(subscribed),
        other => Err(Failure::Broken(anyhow::anyhow!("{other:?} replies to a subscribe"))),
    }
}

/// Publishes whole numbers to `channel`, acknowledged one by one.
pub(super) async fn say(user: &mut User, channel: &str, numbers: std::ops::Range<u64>) -> Result<()> {
    for number in numbers {
        user.publish(channel, &json!(number), "").await?;
    }
    Ok(())
}

/// Resumes a session.
pub(super) fn resume(ticket: &str, channel: &str, from: Option<Position>) -> Connect {
    let resume = vec![Subscribe { channel: channel.into(), from }];
    Connect { ticket: ticket.into(), resume, ..Connect::default() }
}

/// The next publications that are pushed; tickets and the like may come between.
pub(super) async fn pushed(user: &mut User) -> Result<Vec<Publication>> {
    within("a publication", SOON, async {
        loop {
            if let Said::Publications(pushed) = user.push().await? {
                return Ok(pushed.publications);
            }
        }
    })
    .await
}

/// Publishes as a client does: again while the application is away.
pub(super) async fn publish(user: &mut User, channel: &str, data: &Value, key: &str) -> Result<Published> {
    within("the application", SOON, async {
        loop {
            match user.publish(channel, data, key).await {
                Err(failure) => away(failure).await?,
                Ok(published) => return Ok(published),
            }
        }
    })
    .await
}

/// Connects with a token, as soon as the application is there.
pub(super) async fn connect(address: &str, token: &str) -> Result<User> {
    within("the application", SOON, async {
        loop {
            match User::with_token(address, token).await {
                Err(failure) => away(failure).await?,
                Ok(user) => return Ok(user),
            }
        }
    })
    .await
}

/// Calls a method, as soon as the application is there.
pub(super) async fn call(user: &mut User, method: &str, data: &Value) -> Result<Value> {
    within("the application", SOON, async {
        loop {
            match user.call(method, data).await {
                Err(failure) => away(failure).await?,
                Ok(result) => return Ok(result),
            }
        }
    })
    .await
}

/// A pause where the application is away; any other failure is an error. Where another one is attached already, what only
/// Node.js serves is not found until it is, too.
async fn away(failure: Failure) -> Result<()> {
    match failure {
        Failure::Refused(error) if ["UNAVAILABLE", "NOT_FOUND"].contains(&error.name()) => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        }
        other => Err(other.into()),
    }
}

/// The ticket that comes after a subscription, which it grants.
pub(super) async fn ticket(user: &mut User) -> Result<String> {
    within("a ticket", SOON, async {
        loop {
            if let Said::Ticket(ticket) = user.push().await? {
                return Ok(ticket.ticket);
            }
        }
    })
    .await
}

/// The numbers in publications.
pub(super) fn numbers(publications: &[Publication]) -> Vec<Value> {
    publications.iter().map(|one| one.data.as_ref().map_or(Value::Null, |data| data.value())).collect()
}

/// The error that a command must be refused with.
pub(super) fn refused<T: std::fmt::Debug>(outcome: Result<T, Failure>, code: &str) -> Result<()> {
    match outcome {
        Err(Failure::Refused(error)) if error.name() == code => Ok(()),
        other => bail!("{other:?}, instead of an error {code}"),
    }
}
