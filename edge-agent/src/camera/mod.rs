//! One camera's connections.
//!
//! Belongs here: in which condition a stream is and why, when to try again, the loop that reads one stream.
//! Does not belong here: opening a stream (`media`), writing it (`record`), which cameras there are (`config`).
//! Invariant: one stream's failure touches no other stream and no other camera.

pub mod board;
pub mod connection;
pub mod gap;
pub mod masked;
pub mod reader;
