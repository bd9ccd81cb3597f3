//! Days of a calendar: 23 and 25 hours long when the clocks change.

use super::{Hole, Span};
use campanile_proto::time::WallTime;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// One camera's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    pub date: Date,
    /// The part of it that was asked for.
    pub span: Span,
    pub recorded_us: i64,
    pub holes: Vec<Hole>,
}

impl Day {
    /// Hundredths of a percent, rounded down: what has a hole is never 100 %.
    pub fn recorded_hundredths(&self) -> i64 {
        match self.span.micros() {
            0 => 0,
            whole => (i128::from(self.recorded_us) * 10_000 / i128::from(whole)) as i64,
        }
    }
}

/// The days of `within` in `zone`, with their part of the holes.
pub fn days(holes: &[Hole], within: Span, zone: &TimeZone) -> Vec<Day> {
    let mut days = Vec::new();
    let mut from = within.from;
    while from < within.to {
        let Some((date, end)) = day_of(from, zone) else { break };
        let span = Span { from, to: end.min(within.to) };
        let part = |hole: &Hole| Some(Hole { span: hole.span.within(span)?, cause: hole.cause.clone() });
        let holes: Vec<Hole> = holes.iter().filter_map(part).collect();
        let missing: i64 = holes.iter().map(|hole| hole.span.micros()).sum();
        days.push(Day { date, span, recorded_us: span.micros() - missing, holes });
        from = span.to;
    }
    days
}

/// The date of an instant, and when its day ends.
fn day_of(at: WallTime, zone: &TimeZone) -> Option<(Date, WallTime)> {
    let date = Timestamp::from_microsecond(at.0).ok()?.to_zoned(zone.clone()).date();
    // Midnight may not be there on the night the clocks change; then the day begins at the first instant that is.
    let next = date.checked_add(1.day()).ok()?.to_zoned(zone.clone()).ok()?;
    let end = WallTime(next.timestamp().as_microsecond());
    (end > at).then_some((date, end))
}

#[cfg(test)]
mod tests {
    use super::super::Cause;
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn at(text: &str) -> WallTime {
        WallTime(text.parse::<Timestamp>().unwrap().as_microsecond())
    }

    fn of(from: &str, to: &str, holes: &[Hole]) -> Vec<Day> {
        days(holes, Span { from: at(from), to: at(to) }, &TimeZone::get("Europe/Rome").unwrap())
    }

    #[test]
    fn the_nights_the_clocks_change_make_days_of_23_and_25_hours() {
        let hours = |from, to| {
            let days = of(from, to, &[]);
            days.iter().map(|day| (day.date.to_string(), day.span.micros() / HOUR)).collect::<Vec<_>>()
        };
        let day = |date: &str, hours| (date.to_owned(), hours);
        assert_eq!(
            hours("2026-03-28T00:00:00+01:00", "2026-03-31T00:00:00+02:00"),
            [day("2026-03-28", 24), day("2026-03-29", 23), day("2026-03-30", 24)]
        );
        assert_eq!(
            hours("2026-10-24T12:00:00+02:00", "2026-10-26T00:00:00+01:00"),
            [day("2026-10-24", 12), day("2026-10-25", 25)]
        );
    }

    #[test]
    fn an_hour_missing_is_more_of_a_short_day() {
        let hour = |from: &str| {
            let from = at(from);
            Hole { span: Span { from, to: from.plus_micros(HOUR) }, cause: Cause::NotReported }
        };
        let short = of("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", &[hour("2026-03-29T05:00:00+02:00")]);
        let long = of("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00", &[hour("2026-10-25T02:30:00+02:00")]);
        assert_eq!((short[0].recorded_hundredths(), long[0].recorded_hundredths()), (9_565, 9_600));
    }

    #[test]
    fn a_hole_over_midnight_is_in_both_days_and_a_second_is_not_lost_in_rounding() {
        let span = Span { from: at("2026-11-23T23:59:59+01:00"), to: at("2026-11-24T00:00:01+01:00") };
        let days =
            of("2026-11-23T00:00:00+01:00", "2026-11-25T00:00:00+01:00", &[Hole { span, cause: Cause::NotReported }]);
        assert_eq!(days.iter().map(|day| day.holes.len()).collect::<Vec<_>>(), [1, 1]);
        assert!(days.iter().all(|day| day.recorded_hundredths() == 9_999));
    }
}
