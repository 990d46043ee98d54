//! The project's commands as a library.
