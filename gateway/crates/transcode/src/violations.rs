//! What is wrong with a request, collected while reading goes on, and the places it is wrong in.

use std::{cell::RefCell, fmt};

use crate::{TranscodeError, Violation};

/// Violations reported at most.
const MAX_VIOLATIONS: usize = 16;

/// Collects violations.
#[derive(Debug, Default)]
pub(crate) struct Violations(RefCell<Vec<Violation>>);

impl Violations {
    #[cold]
    pub(crate) fn add(&self, field: impl Into<String>, description: impl Into<String>) {
        let mut list = self.0.borrow_mut();
        if list.len() < MAX_VIOLATIONS {
            list.push(Violation { field: field.into(), description: description.into() });
        }
    }

    pub(crate) fn into_result<T>(self, value: T) -> Result<T, TranscodeError> {
        let list = self.0.into_inner();
        if list.is_empty() { Ok(value) } else { Err(TranscodeError::Invalid(list)) }
    }
}

/// A place in the document: a list on the stack, turned into text only for a violation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> At<'a> {
    pub(crate) const ROOT: At<'static> = At { parent: None, step: Step::Root };

    #[inline]
    pub(crate) fn child<'b>(&'b self, step: Step<'b>) -> At<'b>
    where
        'a: 'b,
    {
        At { parent: Some(self), step }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = self.parent.filter(|parent| !matches!(parent.step, Step::Root));
        if let Some(parent) = parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => f.write_str("body"),
            Step::Field(name) if parent.is_some() => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key:?}]"),
        }
    }
}
