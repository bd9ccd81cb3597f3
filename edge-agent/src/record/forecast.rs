//! How many days of footage this disk will hold.

/// Days until the oldest footage makes place for the newest; none: nothing is written, so nothing goes.
pub fn days_kept(room_bytes: u64, bytes_per_day: f64) -> Option<f64> {
    (bytes_per_day > 0.0).then(|| room_bytes as f64 / bytes_per_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_divided_by_what_a_day_takes() {
        assert_eq!(days_kept(70 << 30, (10u64 << 30) as f64), Some(7.0));
        assert_eq!(days_kept(0, 1.0), Some(0.0));
        assert_eq!(days_kept(1, 0.0), None);
    }
}
