//! The contract between two machines of Campanile.
//!
//! Belongs here: what a box, a hub and a partner's hub must agree on byte for byte, and nothing else:
//! messages, ids, time, error kinds, the motion grid, the segment format, signatures and sealed replies.
//! Does not belong here: anything only one of them does (recording, storing, deciding, showing).
//! Invariant: what a released version wrote is read by every later one (`golden/`).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod grid;
pub mod ids;
pub mod kind;
pub mod reply;
pub mod segment;
pub mod signed;
pub mod time;

/// Generated messages and services, one module a package.
pub mod types {
    pub mod v1 {
        #![allow(clippy::all, clippy::pedantic, unused_qualifications, missing_docs)]
        tonic::include_proto!("campanile.types.v1");
    }
}
/// Box and hub.
pub mod edge {
    pub mod v1 {
        #![allow(clippy::all, clippy::pedantic, unused_qualifications, missing_docs)]
        tonic::include_proto!("campanile.edge.v1");
    }
}
/// Hub and hub.
pub mod federation {
    pub mod v1 {
        #![allow(clippy::all, clippy::pedantic, unused_qualifications, missing_docs)]
        tonic::include_proto!("campanile.federation.v1");
    }
}

/// `FileDescriptorSet` of the whole contract, for tests that look for what must not be in it.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
