//! A decoder that a camera took over: what the analysing child says to the agent.

use bytes::Bytes;
use edge_agent::analyse::frame::{Frame, HEAD_BYTES};

/// Frames one after another, as they come over the socket. Gives how many were read.
pub fn analysed(bytes: &[u8]) -> u64 {
    let mut frames = 0;
    let mut rest = Bytes::copy_from_slice(bytes);
    while let Some(head) = rest.first_chunk::<HEAD_BYTES>().copied() {
        let Ok(length) = Frame::body_bytes(&head) else { break };
        if rest.len() < HEAD_BYTES + length {
            break;
        }
        let body = rest.slice(HEAD_BYTES..HEAD_BYTES + length);
        rest = rest.slice(HEAD_BYTES + length..);
        if let Ok(frame) = Frame::decode(head[0], body) {
            frames += 1;
            // What it says of its sandbox is cut to a log line.
            if matches!(frame, Frame::Ready { .. }) {
                continue;
            }
            let again = frame.encode();
            let read = Frame::decode(again[0], again.slice(HEAD_BYTES..)).expect("what was written is read");
            assert_eq!(read, frame);
        }
    }
    frames
}
