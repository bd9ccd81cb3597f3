//! What a camera says besides packets: its description, and reports on its clock.

use edge_agent::media::rtcp;
use edge_agent::media::rtsp::parameter_sets;

/// `payload type u8 | length u16 LE | description | reports`. Gives how many parameter sets and reports were found.
pub fn described(bytes: &[u8]) -> u64 {
    let Some((&[payload_type, low, high], rest)) = bytes.split_first_chunk::<3>() else { return 0 };
    let (sdp, reports) = rest.split_at(usize::from(u16::from_le_bytes([low, high])).min(rest.len()));
    let sets = parameter_sets(sdp, payload_type);
    assert!(sets.iter().map(String::len).sum::<usize>() <= sdp.len());
    let told = rtcp::read(reports);
    let timed = told.sender.map(|report| report.utc_us_of(u32::MAX / 3, u32::from(payload_type)));
    sets.len() as u64 + u64::from(timed.is_some())
}
