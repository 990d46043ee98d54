//! The program that protobuf's conformance runner tests: requests on standard input, answers on standard output, each
//! after its length in four little-endian bytes. Arguments: the folders with the runner's `.proto` files.
//!
//! JSON goes through this crate. Binary to binary goes through prost-reflect, which this crate relies on for messages
//! whose fields are not in an order that one pass can follow.

use std::io::{ErrorKind, Read, Write, stdin, stdout};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use transcode::{Contract, Unknown};

/// conformance.ConformanceRequest, what this program reads of it.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(oneof = "Payload", tags = "1, 2, 7, 8")]
    payload: Option<Payload>,
    #[prost(int32, tag = "3")]
    requested_output_format: i32,
    #[prost(string, tag = "4")]
    message_type: String,
    #[prost(int32, tag = "5")]
    test_category: i32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Payload {
    #[prost(bytes, tag = "1")]
    Protobuf(Vec<u8>),
    #[prost(bytes, tag = "2")]
    Json(Vec<u8>),
    #[prost(bytes, tag = "7")]
    Jspb(Vec<u8>),
    #[prost(bytes, tag = "8")]
    Text(Vec<u8>),
}

/// conformance.ConformanceResponse, what this program writes of it.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4, 5, 6")]
    result: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Answer {
    #[prost(string, tag = "1")]
    ParseError(String),
    #[prost(string, tag = "2")]
    RuntimeError(String),
    #[prost(bytes, tag = "3")]
    Protobuf(Vec<u8>),
    #[prost(bytes, tag = "4")]
    Json(Vec<u8>),
    #[prost(string, tag = "5")]
    Skipped(String),
    #[prost(string, tag = "6")]
    SerializeError(String),
}

const PROTOBUF: i32 = 1;
const JSON: i32 = 2;
const JSON_IGNORE_UNKNOWN: i32 = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folders: Vec<String> = std::env::args().skip(1).collect();
    let files = ["google/protobuf/test_messages_proto2.proto", "google/protobuf/test_messages_proto3.proto"];
    let set = protox::compile(files, &folders)?.encode_to_vec();
    let (contract, pool) = (Contract::from_descriptor_set(&set)?, DescriptorPool::decode(set.as_slice())?);
    loop {
        let mut length = [0; 4];
        match stdin().read_exact(&mut length) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let mut request = vec![0; u32::from_le_bytes(length) as usize];
        stdin().read_exact(&mut request)?;
        let result = Some(answer(&contract, &pool, Request::decode(request.as_slice())?));
        let response = Response { result }.encode_to_vec();
        let mut out = stdout().lock();
        out.write_all(&u32::try_from(response.len())?.to_le_bytes())?;
        out.write_all(&response)?;
        out.flush()?;
    }
}

fn answer(contract: &Contract, pool: &DescriptorPool, request: Request) -> Answer {
    let (Some(codec), Some(descriptor)) =
        (contract.message(&request.message_type), pool.get_message_by_name(&request.message_type))
    else {
        return Answer::Skipped(format!("{} is not supported", request.message_type));
    };
    let unknown =
        if request.test_category == JSON_IGNORE_UNKNOWN { Unknown::Ignored } else { Unknown::Refused };
    let message = match request.payload {
        Some(Payload::Protobuf(bytes)) => bytes,
        Some(Payload::Json(json)) => match codec.from_json(&json, unknown) {
            Ok(bytes) => bytes,
            Err(error) => return Answer::ParseError(error.to_string()),
        },
        Some(Payload::Jspb(_) | Payload::Text(_)) => return Answer::Skipped("only JSON and binary".into()),
        None => return Answer::RuntimeError("no payload".into()),
    };
    // What cannot be parsed at all is told from what has no JSON form.
    let parsed = match DynamicMessage::decode(descriptor, message.as_slice()) {
        Ok(parsed) => parsed,
        Err(error) => return Answer::ParseError(error.to_string()),
    };
    match request.requested_output_format {
        PROTOBUF => Answer::Protobuf(parsed.encode_to_vec()),
        JSON => {
            let mut json = vec![];
            match codec.to_json(&message, &mut json) {
                Ok(()) => Answer::Json(json),
                Err(error) => Answer::SerializeError(error.to_string()),
            }
        }
        _ => Answer::Skipped("only JSON and binary".into()),
    }
}
