//! `/api/v1/edges`: boxes, and tokens to enrol them. Administrators only.

use super::Web;
use super::input::{Raw, nothing};
use super::output;
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::{Action, Request};
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use campanile_proto::edge::v1::{Alarm, EdgeHealth};
use campanile_proto::ids::{CameraId, EdgeId};
use campanile_proto::time::WallTime;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

const MAX_SITE_CHARACTERS: usize = 200;
/// A token travels to a cabinet on paper or in a message.
const DEFAULT_TERM: Duration = Duration::from_secs(24 * 3_600);
/// A box has 64 cameras at most.
const MAX_ALARMS: usize = 100;
/// Of an alarm's sentence, in characters.
const MAX_SENTENCE: usize = 500;
const LONGEST_TERM: Duration = Duration::from_secs(7 * 24 * 3_600);

pub(super) fn add(routes: Routes) -> Routes {
    let read_id = |_: &Web, _: &mut Request, raw: &Raw| raw.name::<EdgeId>("id");
    routes
        .add(Method::GET, "/api/v1/edges", Action::ViewEdges, nothing, list)
        .add(Method::POST, "/api/v1/edges/tokens", Action::IssueToken, read_token, token)
        .add(Method::DELETE, "/api/v1/edges/{id}", Action::RevokeEdge, read_id, revoke)
        .add(Method::POST, "/api/v1/edges/{id}/release", Action::ReleaseEdge, read_id, release)
}

async fn list(call: Call<()>) -> Result<Response, Problem> {
    let edges = call.web.hub.fleet.edges().await.map_err(|e| Problem::of("list boxes", e.kind(), &e))?;
    let shown: Vec<Value> = edges
        .iter()
        .map(|edge| {
            let mut shown = json!({
                "id": edge.id, "name": edge.name, "site_name": edge.site_name,
                "enrolled": output::time(edge.enrolled), "standing": edge.standing, "reason": edge.reason,
                "connected": edge.connected, "software": edge.software,
                "last_seen": edge.last_seen.map(output::time),
            });
            if let Some(health) = &edge.health {
                shown["health"] = shown_health(health);
            }
            shown
        })
        .collect();
    Ok(Json(json!({ "edges": shown })).into_response())
}

/// As the box last told it.
fn shown_health(health: &EdgeHealth) -> Value {
    let alarm = |alarm: &Alarm| {
        let camera = CameraId::try_from(&alarm.camera_id).ok();
        json!({
            "kind": alarm.kind().as_str_name().trim_start_matches("ALARM_KIND_").to_lowercase(),
            "camera": camera, "sentence": alarm.sentence.chars().take(MAX_SENTENCE).collect::<String>(),
            "at": alarm.at.as_ref().map(|at| output::time(WallTime(at.utc_us))),
        })
    };
    let alarms: Vec<Value> = health.alarms.iter().take(MAX_ALARMS).map(alarm).collect();
    json!({
        "disk_free_bytes": health.disk_free_bytes, "disk_total_bytes": health.disk_total_bytes,
        "memory_bytes": health.memory_bytes, "load": health.load,
        "outbox_waiting": health.outbox_waiting,
        "clock": health.clock().as_str_name().trim_start_matches("TIME_SOURCE_").to_lowercase(),
        "clock_uncertainty_us": health.clock_uncertainty_us,
        "analyse_restarts": health.analyse_restarts, "temperature_celsius": health.temperature_celsius,
        // Null while nothing is foreseen.
        "days_kept": (health.days_agreed > 0).then_some(health.days_kept),
        "days_agreed": (health.days_agreed > 0).then_some(health.days_agreed),
        "alarms": alarms,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenForm {
    site_name: String,
    /// `90s`, `15m`, `24h`.
    valid: Option<String>,
}

/// What a token is for, and how long it may be used.
struct TokenWanted {
    site_name: String,
    term: Duration,
}

fn read_token(_: &Web, _: &mut Request, raw: &Raw) -> Result<TokenWanted, Problem> {
    let form: TokenForm = raw.json()?;
    let length = form.site_name.trim().chars().count();
    if !(1..=MAX_SITE_CHARACTERS).contains(&length) || form.site_name.chars().any(char::is_control) {
        return Err(Problem::field("site_name", format!("name the site, 1 to {MAX_SITE_CHARACTERS} characters")));
    }
    let term = match &form.valid {
        None => DEFAULT_TERM,
        Some(text) => {
            let wrong = || Problem::field("valid", "write how long, such as 90s, 15m or 24h; 1s to 168h");
            term(text).filter(|term| (Duration::from_secs(1)..=LONGEST_TERM).contains(term)).ok_or_else(wrong)?
        }
    };
    Ok(TokenWanted { site_name: form.site_name.trim().to_owned(), term })
}

/// A whole number and its unit: `s`, `m`, `h` or `d`.
fn term(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let number = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

async fn token(call: Call<TokenWanted>) -> Result<Response, Problem> {
    let TokenWanted { site_name, term } = &call.input;
    let made = call.web.hub.fleet.new_token(site_name, *term).await;
    let token = made.map_err(|e| Problem::of("make a token", e.kind(), &e))?;
    let answer = Json(json!({ "token": token, "valid_seconds": term.as_secs() }));
    call.pass.close(1, 0).await;
    Ok((StatusCode::CREATED, answer).into_response())
}

async fn revoke(call: Call<EdgeId>) -> Result<Response, Problem> {
    let revoked = call.web.hub.fleet.revoke(call.input).await;
    revoked.map_err(|e| Problem::of("revoke a box", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn release(call: Call<EdgeId>) -> Result<Response, Problem> {
    let released = call.web.hub.fleet.release(call.input).await;
    released.map_err(|e| Problem::of("release a box", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::edge::v1::AlarmKind;
    use campanile_proto::types::v1::Instant;

    #[test]
    fn an_alarm_of_a_box_is_shown_with_its_camera_and_its_time() {
        let camera = CameraId::from_u128(7);
        let at = Instant { utc_us: 1_800_000_000_000_000, ..Instant::default() };
        let alarm = |camera_id| Alarm {
            kind: AlarmKind::DiskError.into(),
            camera_id,
            sentence: "x".repeat(2_000),
            at: Some(at.clone()),
        };
        let alarms = vec![alarm(camera.into()), alarm(Default::default())];
        let shown = shown_health(&EdgeHealth { alarms, ..EdgeHealth::default() });
        assert_eq!(shown["alarms"][0]["kind"], "disk_error");
        assert_eq!(shown["alarms"][0]["camera"], camera.to_string());
        assert_eq!(shown["alarms"][0]["at"], "2027-01-15T08:00:00.000000Z");
        assert_eq!(shown["alarms"][0]["sentence"].as_str().unwrap().len(), MAX_SENTENCE);
        assert_eq!(shown["alarms"][1]["camera"], Value::Null);
        assert_eq!(shown_health(&EdgeHealth::default())["alarms"], json!([]));
    }

    #[test]
    fn days_that_nobody_foresees_are_not_shown_as_none() {
        let shown = shown_health(&EdgeHealth { days_kept: 0.0, days_agreed: 7, ..EdgeHealth::default() });
        assert_eq!((&shown["days_kept"], &shown["days_agreed"]), (&json!(0.0), &json!(7)));
        assert_eq!(shown_health(&EdgeHealth::default())["days_kept"], Value::Null);
    }

    #[test]
    fn a_term_is_a_number_and_its_unit() {
        let seconds = |text| term(text).map(|term| term.as_secs());
        assert_eq!(
            (seconds("90s"), seconds("15m"), seconds("24h"), seconds("7d")),
            (Some(90), Some(900), Some(86_400), Some(604_800))
        );
        for wrong in
            ["", "s", "15", "-1s", "+1s", "1.5h", "1w", "1 h", "99999999999999999999s", "9999999999999999d", "1µ"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
