//! What an init section says of its stream: RFC 6381 codecs string, width, height.

use campanile_proto::kind::Kind;
use mp4_atom::{Any, Codec, DecodeMaybe, Hvcc};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub codecs: String,
    pub width: u32,
    pub height: u32,
}

/// Why an init section says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecsError {
    #[error("the init section is not a sequence of boxes")]
    Damaged,
    #[error("the init section has no track of H.264 or H.265")]
    NoVideo,
}

impl CodecsError {
    pub fn kind(&self) -> Kind {
        Kind::Unsupported
    }
}

pub fn describe(init: &[u8]) -> Result<Described, CodecsError> {
    let mut rest = init;
    while let Some(atom) = Any::decode_maybe(&mut rest).map_err(|_| CodecsError::Damaged)? {
        let Any::Moov(moov) = atom else { continue };
        let entries = moov.trak.iter().flat_map(|trak| &trak.mdia.minf.stbl.stsd.codecs);
        for entry in entries {
            let codecs = match entry {
                Codec::Avc1(avc) => {
                    let (profile, level) = (avc.avcc.avc_profile_indication, avc.avcc.avc_level_indication);
                    format!("avc1.{profile:02X}{:02X}{level:02X}", avc.avcc.profile_compatibility)
                }
                Codec::Hvc1(hvc) => hevc("hvc1", &hvc.hvcc),
                Codec::Hev1(hev) => hevc("hev1", &hev.hvcc),
                _ => continue,
            };
            let visual = entry.visual().ok_or(CodecsError::NoVideo)?;
            return Ok(Described { codecs, width: visual.width.into(), height: visual.height.into() });
        }
    }
    Err(CodecsError::NoVideo)
}

/// ISO/IEC 14496-15 annex E.3.
fn hevc(entry: &str, hvcc: &Hvcc) -> String {
    let space = ["", "A", "B", "C"].get(usize::from(hvcc.general_profile_space)).copied().unwrap_or("");
    let compatibility = u32::from_be_bytes(hvcc.general_profile_compatibility_flags).reverse_bits();
    let tier = if hvcc.general_tier_flag { 'H' } else { 'L' };
    let constraints = hvcc.general_constraint_indicator_flags;
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let constraints: String = constraints.iter().take(used).map(|byte| format!(".{byte:X}")).collect();
    let (profile, level) = (hvcc.general_profile_idc, hvcc.general_level_idc);
    format!("{entry}.{space}{profile}.{compatibility:X}.{tier}{level}{constraints}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_main_profile_of_h265_is_named_as_players_name_it() {
        let hvcc = Hvcc {
            general_profile_idc: 1,
            general_profile_compatibility_flags: [0x60, 0, 0, 0],
            general_constraint_indicator_flags: [0x90, 0, 0, 0, 0, 0],
            general_level_idc: 93,
            ..Hvcc::new()
        };
        assert_eq!(hevc("hvc1", &hvcc), "hvc1.1.6.L93.90");
    }

    #[test]
    fn bytes_that_are_no_init_section_are_refused() {
        assert_eq!(describe(b""), Err(CodecsError::NoVideo));
        assert!(describe(&[0, 0, 0, 9, b'm', b'o', b'o', b'v', 1]).is_err());
    }
}
