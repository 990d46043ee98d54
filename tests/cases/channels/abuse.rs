//! Clients that misbehave: each is closed, with a code that says why, and delays nobody.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use blackbox::{Sut, random::unique, runner::Group, wait::within};
use serde_json::{Value, json};
use xtask::bench::channels::{
    socket::{Frame, Socket},
    user::{Failure, PATH, User},
    wire::{Ask, Empty, Encoding, Said},
};

use super::app::{SOON, anonymous, attach, pushed, subscribe};

pub(crate) fn add(group: Group) -> Group {
    group
        .test("channels: a client that never reads is closed and delays nobody", never_reads)
        .test("channels: a client that floods is limited, then closed", floods)
        .test("channels: malformed frames close their connection alone", malformed)
}

async fn never_reads(sut: Arc<Sut>) -> Result<()> {
    let app = attach(&sut).await?;
    let channel = format!("bench:{}", unique());
    let mut deaf = anonymous(&sut).await?;
    deaf.socket.small_window()?;
    subscribe(&mut deaf, &channel, None).await?;
    let mut reader = anonymous(&sut).await?;
    subscribe(&mut reader, &channel, None).await?;
    let before = sut.metrics("admin").await?.sum("gateway_channels_closed_total", &[]);
    let (mut sent, mut slowest, started) = (0_u64, Duration::ZERO, Instant::now());
    let data = "x".repeat(30_000);
    // Until more waits for it than the kernel and the outbox hold.
    loop {
        sent += 1;
        let at = Instant::now();
        app.emit(sent, &channel, json!({"number": sent, "data": data}).to_string(), String::new()).await?;
        let publications = pushed(&mut reader).await?;
        slowest = slowest.max(at.elapsed());
        let value = publications[0].data.as_ref().map_or(Value::Null, |data| data.value());
        ensure!(value["number"] == sent, "{} instead of {sent}", value["number"]);
        if sent % 50 == 0 {
            let closes = sut.metrics("admin").await?.sum("gateway_channels_closed_total", &[]);
            if closes > before {
                break;
            }
            ensure!(started.elapsed() < Duration::from_secs(40), "{sent} messages wait and nobody is closed");
        }
    }
    ensure!(slowest < Duration::from_secs(2), "the other waited for {slowest:?}");
    // What the kernel holds comes first; then the end, by a close frame if there was room for one.
    let end = within("the deaf one's end", SOON, async {
        loop {
            match deaf.push().await {
                Ok(_) => {}
                Err(end) => return Ok(end),
            }
        }
    })
    .await?;
    let closed = matches!(&end, Failure::Closed(4001, _) | Failure::Broken(_));
    ensure!(closed, "it ended with {end}");
    Ok(())
}

async fn floods(sut: Arc<Sut>) -> Result<()> {
    let (mut flood, mut calm) = (anonymous(&sut).await?, anonymous(&sut).await?);
    let mut limited = 0;
    let end = within("the flood's end", SOON, async {
        // As fast as replies come; the answers say that there are too many.
        for _ in 0..20_000 {
            match flood.ask(Ask::Ping(Empty {})).await {
                Ok(_) => {}
                Err(Failure::Refused(error)) if error.name() == "RATE_LIMITED" => {
                    ensure!(error.retry_after_ms > 0, "{error:?}");
                    limited += 1;
                }
                Err(end) => return Ok(end),
            }
        }
        anyhow::bail!("nothing stopped it")
    })
    .await?;
    let closed = matches!(&end, Failure::Closed(4005, reason) if reason.contains("FLOOD"));
    ensure!(closed, "it ended with {end}");
    ensure!(limited > 0, "it was not warned");
    ensure!(matches!(calm.ask(Ask::Ping(Empty {})).await, Ok(Said::Pong(_))), "another one is alive");
    Ok(())
}

/// Bytes as they are sent, and the close code that they must bring.
async fn malformed(sut: Arc<Sut>) -> Result<()> {
    let address = sut.address("public");
    let mut calm = anonymous(&sut).await?;
    let masked = |first: u8, payload: &[u8]| {
        let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend(payload);
        frame
    };
    // The length is said; the bytes need not come.
    let mut huge = vec![0x81, 0xff];
    huge.extend((1_u64 << 40).to_be_bytes());
    huge.extend([0; 4]);
    let cases: [(&str, Vec<u8>, &[u16]); 9] = [
        ("no JSON", masked(0x81, b"{"), &[4501]),
        ("not UTF-8", masked(0x81, b"\xff\xfe"), &[1007, 4501]),
        ("binary in a JSON connection", masked(0x82, b"\x08\x01"), &[1003, 4501]),
        ("no connect", masked(0x81, br#"{"commands":[{"id":1,"ping":{}}]}"#), &[4501]),
        ("an unknown command", masked(0x81, br#"{"commands":[{"id":1,"explode":{}}]}"#), &[4501]),
        ("not masked", vec![0x81, 2, b'{', b'}'], &[1002]),
        ("reserved bits", masked(0xf1, b"{}"), &[1002]),
        ("an unknown opcode", masked(0x83, b"{}"), &[1002]),
        ("too large", huge, &[1009, 4501]),
    ];
    for (what, bytes, codes) in cases {
        let mut socket = Socket::open(&address, PATH, Encoding::Json.subprotocol(), "").await?;
        socket.send_raw(&bytes).await?;
        let code = within(what, SOON, close_code(&mut socket)).await?;
        ensure!(codes.contains(&code), "{what}: closed with {code}, not one of {codes:?}");
    }
    ensure!(matches!(calm.ask(Ask::Ping(Empty {})).await, Ok(Said::Pong(_))), "another one is alive");
    let user = User::with_token(&address, &sut.token(&unique())?).await;
    user.map(drop).context("and new ones come in")
}

async fn close_code(socket: &mut Socket) -> Result<u16> {
    loop {
        if let Frame::Close(code, _) = socket.frame().await? {
            return Ok(code);
        }
    }
}
