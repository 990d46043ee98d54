//! The edge: one front door for Node.js and Python services.
