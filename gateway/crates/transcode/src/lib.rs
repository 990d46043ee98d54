//! JSON over HTTP to gRPC and back, by `google.api.http` annotations read at run time.
//!
//! ```text
//! .proto folders, descriptor sets ──Contract::compile──► Contract: methods, access rules, route table
//! HTTP method + path ──Contract::route──► Matched ──encode_request──► protobuf bytes
//! protobuf bytes ──Matched::decode_response──► JSON bytes
//! ```
//!
//! Everything a caller needs goes through [`Contract`], [`Method`], [`Matched`] and [`Codec`] as bytes in and bytes out.
//! Hold the contract behind an `Arc` and swap it whole to reload: a [`Matched`] keeps what it needs alive.
//!
//! Messages are transcoded by plans that are compiled when the contract is loaded: one pass over the bytes, with no
//! message object between, which is faster than generated code. Wire bytes in an order that one pass cannot follow
//! (legal, and rare) are first put in order by prost-reflect's dynamic message.
//!
//! # Layout
//!
//! - `load`: files to a descriptor pool · `contract`, `binding`: the pool to methods and routes · `access`, `timeout`: the options
//! - `template`, `router`: path templates and the trie that finds them
//! - `plan`: the tables · `wire`: the encoding · `to_json`, `from_json`: the two passes · `codec`: a message type, both ways
//! - `query`, `request`: a request's parts to one message · `http_body`: raw content · `time`, `field_mask`: text forms
//! - [`openapi`]: the contract as an OpenAPI 3.1 document
//! - [`envelope`], [`grpc_web`], [`connect`], [`gzip`]: the forms of the protocols that browsers and SDKs speak
//! - `event_id`: the ids of events, on the wire
//! - [`status`]: gRPC status codes, their HTTP equivalents, and rich error details
//!
//! ```
//! use std::collections::BTreeMap;
//! # let files = BTreeMap::from([("t.proto", r#"
//! #   syntax = "proto3"; package t;
//! #   import "google/api/annotations.proto"; import "hybrid/options/v1/access.proto";
//! #   service Greeter { rpc Greet(In) returns (In) {
//! #     option (google.api.http) = {post: "/v1/{name}:greet" body: "*"};
//! #     option (hybrid.options.v1.access) = {level: ACCESS_LEVEL_PUBLIC}; } }
//! #   message In { string name = 1; int32 times = 2; }"#)]);
//! let contract = transcode::Contract::from_sources(&files)?;
//! let transcode::Routed::Matched(call) = contract.route(&http::Method::POST, "/v1/ann:greet") else { panic!() };
//! assert_eq!(call.method().grpc_path().as_str(), "/t.Greeter/Greet");
//! let message = call.encode_request(None, br#"{"times": 3}"#)?;
//! assert_eq!(call.decode_response(&message)?, br#"{"times":3,"name":"ann"}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod binding;
mod codec;
pub mod connect;
mod contract;
pub mod envelope;
mod error;
mod event_id;
mod field_mask;
mod from_json;
pub mod grpc_web;
pub mod gzip;
mod http_body;
mod load;
pub mod openapi;
mod plan;
mod query;
mod request;
mod router;
pub mod status;
mod template;
#[cfg(test)]
mod testing;
mod time;
mod timeout;
mod to_json;
mod violations;
mod wire;

pub use access::Access;
pub use codec::Codec;
pub use contract::{Contract, Matched, Method, Route, Routed};
pub use error::{LoadError, TranscodeError, Violation};
pub use from_json::Unknown;
pub use http_body::HttpBody;
