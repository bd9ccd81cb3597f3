//! Why nothing is there, in words.

use campanile_proto::edge::v1::CameraCondition;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// As the box reported it.
    Reported(CameraCondition),
    /// It was recorded, and is not kept any more: by which rule of the box.
    Deleted(String),
    /// The box has said nothing about this time.
    NotReported,
    /// Another organisation's camera, whose listing names no causes.
    NotNamed,
}

impl Cause {
    /// For programs; the page has Italian words for each.
    pub fn code(&self) -> String {
        match self {
            Self::Reported(condition) => {
                condition.as_str_name().trim_start_matches("CAMERA_CONDITION_").to_ascii_lowercase()
            }
            Self::Deleted(_) => "deleted".to_owned(),
            Self::NotReported => "not_reported".to_owned(),
            Self::NotNamed => "not_named".to_owned(),
        }
    }

    /// For people.
    pub fn sentence(&self) -> String {
        use CameraCondition::*;
        let fixed = match self {
            Self::Deleted(rule) => return format!("deleted at the box by the rule {rule}"),
            Self::NotReported => "the box has reported nothing about this time",
            Self::NotNamed => "its owner names no cause",
            Self::Reported(condition) => match condition {
                Unreachable => "the camera could not be reached",
                AuthenticationRefused => "the camera refused the user name or password",
                UnsupportedCodec => "the camera sent a format that cannot be recorded",
                NoBytes => "the camera was connected and sent nothing",
                DiskFull => "the disk of the box was full",
                DiskError => "the disk of the box failed",
                EdgeOff => "the box was off",
                NoSealingKeys => "the box had no keys to seal footage with",
                Masked => "the town had masked the camera",
                Connecting => "the box was connecting to the camera",
                Recording | Unspecified => "the box named no cause",
            },
        };
        fixed.to_owned()
    }
}
