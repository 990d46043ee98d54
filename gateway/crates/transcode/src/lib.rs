//! JSON over HTTP to gRPC and back, by `google.api.http` annotations read at run time.
//!
//! ```text
//! .proto folders, descriptor sets ──Contract::compile──► Contract: methods, access rules, route table
//! HTTP method + path ──Contract::route──► Matched ──encode_request──► protobuf bytes
//! protobuf bytes ──Matched::decode_response──► JSON bytes
//! ```
//!
//! Everything a caller needs goes through [`Contract`], [`Method`] and [`Matched`] as bytes in and bytes out, so the
//! engine behind them (today prost-reflect's `DynamicMessage`) can be replaced without a change outside this crate.
//! Hold the contract behind an `Arc` and swap it whole to reload: a [`Matched`] keeps what it needs alive.
//!
//! # Layout
//!
//! - `load`: files to a descriptor pool · `contract`, `binding`: the pool to methods and routes · `access`: the option
//! - `template`, `router`: path templates and the trie that finds them
//! - `json`, `scalar`, `query`, `request`: requests to protobuf · `response`: protobuf to JSON
//! - `http_body`, `event_id`: raw content, and the ids of events, on the wire
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
//! assert_eq!(call.decode_response(&message)?, br#"{"name":"ann","times":3}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod binding;
mod contract;
mod error;
mod event_id;
mod http_body;
mod json;
mod load;
mod query;
mod request;
mod response;
mod router;
mod scalar;
pub mod status;
mod template;
#[cfg(test)]
mod testing;

pub use access::Access;
pub use contract::{Contract, Matched, Method, Route, Routed};
pub use error::{LoadError, TranscodeError, Violation};
pub use http_body::HttpBody;
