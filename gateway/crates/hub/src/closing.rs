//! Why a connection ends, in the form that close frames carry.

use crate::proto::{self, CloseCode};

/// Why the hub ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// For programs.
    pub code: CloseCode,
    /// For people.
    pub message: String,
    /// Reconnect after this time; of no meaning with codes from 4500 on.
    pub retry_after_ms: u32,
}

impl Closing {
    /// A closing with no time to wait.
    pub fn new(code: CloseCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: 0 }
    }

    /// The same, with a time to wait before reconnecting.
    #[must_use]
    pub fn after(mut self, retry_after_ms: u32) -> Self {
        self.retry_after_ms = retry_after_ms;
        self
    }

    /// The code without its prefix, for example `DRAINING`.
    pub fn name(&self) -> &'static str {
        self.code.as_str_name().trim_start_matches("CLOSE_CODE_")
    }

    /// The reason of a WebSocket's close frame: always within its 123 bytes.
    pub fn reason(&self) -> String {
        format!(r#"{{"code":"{}","retry_after_ms":{}}}"#, self.name(), self.retry_after_ms)
    }

    /// As the last push of a connection.
    pub fn to_proto(&self) -> proto::Closing {
        proto::Closing {
            code: self.code.into(),
            message: self.message.clone(),
            retry_after_ms: self.retry_after_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_every_code_fits_a_close_frame() {
        for code in (4000..4600).filter_map(|code| CloseCode::try_from(code).ok()) {
            let closing = Closing::new(code, "x".repeat(500)).after(u32::MAX);
            assert!(closing.reason().len() <= 123, "{}", closing.reason());
            assert!(serde_json::from_str::<serde_json::Value>(&closing.reason()).is_ok());
        }
    }
}
