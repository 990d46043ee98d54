//! The codec towards upstreams on the wire: bodies of every framing and size, uploads beside answers.

use crate::support::{Content, Edge, full, http, open, raw, read_head, read_until, within};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A body without a declared length, in pieces of uneven sizes.
fn pieces(content: &Bytes) -> Content {
    let cuts = [1, 3000, 16_384, 70_000].into_iter().cycle();
    let frames = cuts.scan(content.clone(), |rest, cut| {
        let piece = rest.split_to(cut.min(rest.len()));
        (!piece.is_empty()).then(|| Ok::<_, Infallible>(Frame::data(piece)))
    });
    StreamBody::new(stream::iter(frames.collect::<Vec<_>>())).boxed()
}

#[tokio::test]
async fn bodies_of_every_framing_and_size_pass_whole() {
    // Answers with what it was sent, framed as the path says.
    let upstream = http(|request: Request<Incoming>| async move {
        let declared = request.uri().path().ends_with("declared");
        let content = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(if declared { full(content) } else { pieces(&content) })
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    let stream = TcpStream::connect(edge.at.public).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Content>(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    for size in [0, 1, 2000, 16_383, 16_384, 16_385, 300_000, 3_000_000] {
        let content: Bytes = (0..size).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        for declared in [true, false] {
            for download in ["declared", "chunked"] {
                let request =
                    Request::post(format!("/open/{download}")).header("host", edge.at.public.to_string());
                let body = if declared { full(content.clone()) } else { pieces(&content) };
                let response = within(sender.send_request(request.body(body).unwrap())).await.unwrap();
                assert_eq!(response.status(), 200);
                let got = within(response.into_body().collect()).await.unwrap().to_bytes();
                assert!(got == content, "{size} bytes, {download}: got {}", got.len());
                within(sender.ready()).await.unwrap();
            }
        }
    }
    driver.abort();
}

#[tokio::test]
async fn an_answer_and_the_rest_of_its_upload_pass_side_by_side() {
    let upstream = raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await.unwrap();
        read_until(&mut stream, "late").await;
        stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    let head = "POST /open HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let mut client = open(edge.at.public, head).await;
    read_until(&mut client, "one").await;
    client.write_all(b"4\r\nlate\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut client, "two\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn an_upstream_may_refuse_an_upload_that_it_does_not_read() {
    let upstream = raw(|mut stream| async move {
        read_head(&mut stream).await;
        let refusal = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
        stream.write_all(refusal).await.unwrap();
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    for _ in 0..5 {
        let mut client = open(
            edge.at.public,
            "POST /open HTTP/1.1\r\nhost: HOST\r\ncontent-length: 4000000\r\n\r\nbegins",
        )
        .await;
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 413 "));
    }
}
