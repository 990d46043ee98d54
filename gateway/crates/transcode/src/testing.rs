//! A contract for the unit tests, with every kind of field and binding.

use std::{collections::BTreeMap, sync::LazyLock};

use prost_reflect::DynamicMessage;

use crate::{Contract, Routed, TranscodeError, Unknown, load};

const SOURCE: &str = r#"
syntax = "proto3";
package t;
import "google/api/annotations.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "hybrid/options/v1/access.proto";

service Notes {
  rpc Get(Note) returns (Note) {
    option (google.api.http) = {get: "/v1/notes/{id}"};
    option (hybrid.options.v1.access) = {level: ACCESS_LEVEL_PUBLIC};
  }
  rpc Create(Note) returns (Note) {
    option (google.api.http) = {post: "/v1/notes" body: "*"};
    option (hybrid.options.v1.access) = {
      level: ACCESS_LEVEL_AUTHENTICATED
      scopes: ["notes", "notes.write"]
    };
  }
  rpc Count(Note) returns (Note) {
    option (hybrid.options.v1.access) = {
      level: ACCESS_LEVEL_AUTHENTICATED
      scopes: "notes"
      services: true
    };
  }
  rpc Purge(Note) returns (Note) {
    option (google.api.http) = {delete: "/v1/{id=files/**}"};
    option (hybrid.options.v1.access) = {level: ACCESS_LEVEL_INTERNAL};
  }
  rpc Filter(Note) returns (Note) {
    option (google.api.http) = {
      put: "/v1/notes/{id}/filter" body: "filter" response_body: "filter"
      additional_bindings {put: "/v1/notes/{id}/tags" body: "tags" response_body: "tags"}
      additional_bindings {put: "/v1/notes/{id}/limit" body: "limit" response_body: "limit"}
    };
  }
  rpc Unruled(Note) returns (Note) {
    option (google.api.http) = {patch: "/v1/owners/{filter.owner.name}" body: "*"};
  }
  rpc Unspecified(Note) returns (stream Note) {
    option (hybrid.options.v1.access) = {scopes: "notes"};
  }
}

message Note {
  string id = 1;
  int32 limit = 2;
  repeated Kind kinds = 3;
  Filter filter = 4;
  int64 big = 5;
  bytes raw = 6;
  bool deep = 7;
  google.protobuf.Timestamp since = 8;
  google.protobuf.Duration wait = 9;
  google.protobuf.Int32Value cap = 10;
  int32 max_items = 11;
  map<string, Owner> labels = 12;
  map<int32, int32> counts = 13;
  google.protobuf.Struct extra = 14;
  repeated string tags = 15;
  oneof where {
    string text = 16;
    int32 page = 17;
  }
  Note child = 18;
}

message Filter {
  Owner owner = 1;
  repeated string tags = 2;
  float min_score = 3;
  double max_score = 4;
}

message Owner {
  string name = 1;
}

enum Kind {
  KIND_UNSPECIFIED = 0;
  KIND_DRAFT = 1;
  KIND_FINAL = 2;
}
"#;

fn sources() -> BTreeMap<String, String> {
    BTreeMap::from([("t.proto".to_owned(), SOURCE.to_owned())])
}

/// The compiled contract.
pub(crate) fn notes() -> &'static Contract {
    static NOTES: LazyLock<Contract> = LazyLock::new(|| Contract::from_sources(&sources()).unwrap());
    &NOTES
}

/// The same, compiled to ignore what it does not know.
pub(crate) fn lenient_notes() -> Contract {
    Contract::from_pool(&load::sources(sources()).unwrap(), Unknown::Ignored).unwrap()
}

/// Encodes a request as the gateway would.
pub(crate) fn request(method: &http::Method, uri: &str, body: &str) -> Result<Vec<u8>, TranscodeError> {
    request_to(notes(), method, uri, body)
}

pub(crate) fn request_to(
    contract: &Contract,
    method: &http::Method,
    uri: &str,
    body: &str,
) -> Result<Vec<u8>, TranscodeError> {
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    match contract.route(method, path) {
        Routed::Matched(matched) => matched.encode_request(query, body.as_bytes()),
        other => panic!("{method} {uri}: {other:?}"),
    }
}

/// What the bytes mean, by prost-reflect alone.
pub(crate) fn json_of(message: &str, bytes: &[u8]) -> serde_json::Value {
    static POOL: LazyLock<prost_reflect::DescriptorPool> =
        LazyLock::new(|| load::sources(sources()).unwrap());
    let descriptor = POOL.get_message_by_name(message).unwrap();
    serde_json::to_value(DynamicMessage::decode(descriptor, bytes).unwrap()).unwrap()
}
