//! Tests of the whole stack over its public ports.
