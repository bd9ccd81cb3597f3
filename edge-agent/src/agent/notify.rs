//! Readiness and signs of life, as systemd asks for them (sd_notify(3), sd_watchdog_enabled(3)).

use sd_notify::NotifyState;

/// Tells systemd, if it listens; a failure changes nothing for anybody.
pub fn systemd(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd not told");
    }
}

/// Gives signs of life, twice as often as asked, while this runtime turns: an agent that hangs is started again
/// (WatchdogSec=).
pub async fn live() {
    let asked = sd_notify::watchdog_enabled().map(|patience| patience / 2);
    let Some(pause) = asked.filter(|pause| !pause.is_zero()) else { return };
    let mut ticks = tokio::time::interval(pause);
    loop {
        ticks.tick().await;
        systemd(&[NotifyState::Watchdog]);
    }
}
