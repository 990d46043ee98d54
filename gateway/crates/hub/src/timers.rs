//! The tasks of a hub: flushers, and one coarse tick for everything that ends by itself. No connection has a timer.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::channels::FLUSHERS;
use crate::clock::{Instant, jitter, millis, unix_ms};
use crate::commands::unsubscribe::tell_left;
use crate::connection::{Connection, Phase};
use crate::lock::lock;
use crate::proto::{ChannelTop, CloseCode, Heartbeat, server_message};
use crate::shared::{GROUPS, Shared};
use crate::{Closing, Settings, Wire};

const TICK: Duration = Duration::from_millis(50);

/// Starts them; they end with the hub.
pub(crate) fn start(shared: &Arc<Shared>) {
    let mut tasks = lock(&shared.tasks);
    for flusher in 0..FLUSHERS {
        tasks.push(tokio::spawn(flush(Arc::downgrade(shared), flusher)).abort_handle());
    }
    tasks.push(tokio::spawn(tick(Arc::downgrade(shared))).abort_handle());
}

/// Flushes channels that are busy, one interval after the first of their batches has begun.
async fn flush(shared: Weak<Shared>, flusher: usize) {
    let Some(due) = shared.upgrade().map(|shared| shared.channels.due(flusher)) else { return };
    loop {
        due.notify.notified().await;
        let Some(interval) = shared.upgrade().map(|shared| shared.settings().flush) else { return };
        sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        let settings = shared.settings();
        shared.channels.flush_due(&due, shared.context(&settings));
    }
}

async fn tick(shared: Weak<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 0.. {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let settings = shared.settings();
        let context = shared.context(&settings);
        let expired = shared.desk.expire(context.now, &settings, &shared.counters);
        shared.done(expired);
        if count % 2 == 0 {
            shared.channels.flush_presence(context);
        }
        shared.channels.sweep(count, context);
        partings(&shared, context.now);
        let group: Vec<_> = lock(&shared.connections[count % GROUPS]).values().cloned().collect();
        group.iter().for_each(|connection| look_after(&shared, connection, &settings));
        if count % 1_000 == 0 {
            lock(&shared.revoked).sweep(unix_ms().saturating_sub(300_000));
        }
    }
}

/// Sessions whose grace time is over leave their channels.
fn partings(shared: &Shared, now: Instant) {
    loop {
        let parting = {
            let mut partings = lock(&shared.channels.parting);
            if partings.front().is_none_or(|parting| parting.at > now) {
                return;
            }
            partings.pop_front()
        };
        let Some(parting) = parting else { return };
        let left = shared.channels.with(&parting.channel, |channel| {
            let actor = channel.presence.as_mut()?.expire(&parting.session, parting.connection)?;
            Some((actor, channel.namespace.clone()))
        });
        if let Some((actor, namespace)) = left.flatten() {
            tell_left(shared, actor, &parting.channel, &namespace);
        }
    }
}

/// Ends, renews or greets one connection, once a second.
fn look_after(shared: &Shared, connection: &Connection, settings: &Settings) {
    let (heard, sent) = connection.silent_since();
    let now = shared.tenths();
    let tenths = |duration: Duration| (duration.as_millis() / 100) as u32;
    let heartbeat = tenths(settings.heartbeat);
    let mut state = lock(&connection.state);
    let ended = state.identity.expires.is_some_and(|expires| expires.saturating_mul(1000) <= unix_ms());
    let open = state.phase == Phase::Open;
    let silent = now.saturating_sub(heard);
    if ended && open {
        drop(state);
        return connection.close(Closing::new(CloseCode::Expired, "the token has ended"), &shared.counters);
    }
    // An event stream cannot answer; it ends when its transport does.
    let unheard = silent > 2 * heartbeat && (connection.wire != Wire::EventStream || !open);
    let no_connect = state.phase == Phase::New && silent > tenths(settings.ask_timeout * 2).max(50);
    if unheard || no_connect {
        drop(state);
        let message = if no_connect { "no connect came" } else { "nothing was heard for too long" };
        let closing = Closing::new(CloseCode::Silent, message).after(100 + jitter(900));
        return connection.close(closing, &shared.counters);
    }
    if open && state.renew_at.is_some_and(|at| at <= Instant::now()) {
        connection.renew(&mut state, shared);
    }
    // A client that only reads is asked for an answer, too, however much it is sent.
    let beaten = connection.beaten.load(Relaxed);
    let quiet = now.saturating_sub(sent.max(beaten)) >= heartbeat;
    let unheard = connection.wire != Wire::EventStream && now.saturating_sub(heard.max(beaten)) >= heartbeat;
    if open && (quiet || unheard) {
        let names: Vec<_> = state.subscriptions.iter().map(|own| own.channel.clone()).collect();
        drop(state);
        // Counted from here where nobody reads, so that heartbeats do not pile up.
        connection.beaten.store(now, Relaxed);
        beat(shared, connection, &names);
    }
}

/// A heartbeat, with the newest places that were handed to this connection.
fn beat(shared: &Shared, connection: &Connection, names: &[Arc<str>]) {
    let top = |name: &Arc<str>| {
        let top = shared.channels.with(name, |channel| {
            let live = crate::channel::Standing::Live;
            let own = channel.subscribers.get(&connection.id)?;
            if own.standing == live { channel.top(connection.id) } else { None }
        });
        Some(ChannelTop { channel: name.to_string(), top: Some(top.flatten()?) })
    };
    let tops = names.iter().filter_map(top).collect();
    connection.push(shared, server_message::Kind::Heartbeat(Heartbeat { tops }), None);
}

/// Tells all connections to reconnect, spread over a time.
pub(crate) async fn drain(shared: Weak<Shared>, within: Duration) {
    let steps = (within.as_millis() / TICK.as_millis()).clamp(1, 20 * 600) as u64;
    for step in 0..steps {
        let Some(shared) = shared.upgrade() else { return };
        for group in &shared.connections {
            let group: Vec<_> = lock(group).values().cloned().collect();
            for connection in
                group.iter().filter(|connection| step + 1 == steps || connection.id % steps == step)
            {
                let closing = Closing::new(CloseCode::Draining, "the gateway stops: resume elsewhere");
                let retry = 100 + jitter(millis(within).clamp(1_000, 5_000));
                connection.close(closing.after(retry), &shared.counters);
            }
        }
        drop(shared);
        if step + 1 < steps {
            sleep(TICK).await;
        }
    }
}
