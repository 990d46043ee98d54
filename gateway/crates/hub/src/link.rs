//! An attached application.

use crate::Hub;
use crate::proto::AttachRequest;

/// One stream of an application: what it says goes in here. Dropped: the stream is gone.
#[derive(Debug)]
pub struct Link {
    _hub: Hub,
    _service: String,
}

/// Why a link is closed: the status of its stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// What it said makes no sense: INVALID_ARGUMENT.
    #[error("{0}")]
    Invalid(String),
    /// It said too much at once: RESOURCE_EXHAUSTED.
    #[error("{0}")]
    Flood(String),
    /// It said goodbye and everything is answered: OK.
    #[error("the application has left")]
    Left,
}

impl Link {
    pub(crate) fn new(hub: Hub, service: &str) -> Self {
        Self { _hub: hub, _service: service.into() }
    }

    /// Takes one message. An error: end the stream with it.
    pub fn receive(&mut self, message: AttachRequest) -> Result<(), LinkError> {
        let _ = message;
        Err(LinkError::Invalid("not built yet".into()))
    }
}
