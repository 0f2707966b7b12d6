//! What a bench is at, for whoever watches: one line on standard error, where that is a terminal.
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

/// There is one standard error, and one bench at a time.
static LINE: OnceLock<ProgressBar> = OnceLock::new();
/// How often the line is drawn: seldom enough to cost nothing that is measured.
const DRAW_EVERY: Duration = Duration::from_millis(500);

/// Says what is measured from now on.
pub fn begin(what: impl Into<String>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let line = LINE.get_or_init(|| {
        let line = ProgressBar::new_spinner();
        line.enable_steady_tick(DRAW_EVERY);
        match ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            Ok(style) => line.with_style(style),
            Err(_) => line,
        }
    });
    line.reset_elapsed();
    line.set_message(what.into());
}

/// Takes the line away.
pub fn end() {
    if let Some(line) = LINE.get() {
        line.finish_and_clear();
    }
}
