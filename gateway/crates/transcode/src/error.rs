//! What can go wrong: when contracts are loaded, and when a message is transcoded.

use std::path::PathBuf;

/// Why a set of contracts cannot be used. Each names the file or method and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A path does not exist or cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The path as configured, or below it.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A path is neither a folder nor a descriptor set.
    #[error("{}: expected a folder of .proto files or a descriptor set (.binpb)", path.display())]
    UnknownKind {
        /// The path as configured.
        path: PathBuf,
    },
    /// A `.proto` file or descriptor set is invalid.
    #[error("{origin}: {message}")]
    Compile {
        /// Where the definitions came from.
        origin: String,
        /// What the compiler said.
        message: String,
    },
    /// A descriptor set holds a file written in protobuf editions, which are not supported.
    #[error("{origin}: {file} uses protobuf editions; only proto2 and proto3 are supported")]
    Editions {
        /// Where the descriptor set came from.
        origin: String,
        /// The file inside it.
        file: String,
    },
    /// A method's `google.api.http` rule is invalid.
    #[error("{method}: {problem}")]
    Rule {
        /// The method's full name, after its file and line where they are known.
        method: String,
        /// What is wrong.
        problem: String,
    },
    /// Two methods claim the same requests.
    #[error("{method}: {route} is already taken by {other}")]
    Conflict {
        /// The later method's full name, after its file and line where they are known.
        method: String,
        /// The HTTP method and template.
        route: String,
        /// The method that has it.
        other: String,
    },
}

/// One thing wrong with one place of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where, as the client wrote it: `texts[0]`, `document.id`, or `body` for the JSON as a whole.
    pub field: String,
    /// What, for a person: `expected a string, found a number`.
    pub description: String,
}

/// Why a message could not be transcoded.
#[derive(Debug, thiserror::Error)]
pub enum TranscodeError {
    /// The body is not JSON. The client's fault.
    #[error("the body is not valid JSON: {description} at line {line} column {column}")]
    Syntax {
        /// What the parser expected.
        description: String,
        /// From 1.
        line: usize,
        /// From 1; 0 at the start of a line.
        column: usize,
    },
    /// Path, query or body do not fit the method's request. The client's fault.
    #[error("the request does not fit the contract: {}", summary(.0))]
    Invalid(Vec<Violation>),
    /// The upstream's bytes are not a message of the method's response type. The upstream's fault.
    #[error("the response is not a {message}: {description}")]
    Response {
        /// The expected message type.
        message: String,
        /// What the decoder said.
        description: String,
    },
}

impl TranscodeError {
    /// The violations to report to the client; empty where there is no field to name.
    pub fn violations(&self) -> &[Violation] {
        match self {
            Self::Invalid(violations) => violations,
            _ => &[],
        }
    }

    /// Whether the client can mend it, as opposed to the upstream.
    pub fn is_client_fault(&self) -> bool {
        !matches!(self, Self::Response { .. })
    }
}

fn summary(violations: &[Violation]) -> String {
    let mut text = String::new();
    for violation in violations {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&violation.field);
        text.push_str(": ");
        text.push_str(&violation.description);
    }
    text
}
