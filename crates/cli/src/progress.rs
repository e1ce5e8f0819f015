//! Progress bars, on a terminal only.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// How often a bar moves by itself.
const TICK: Duration = Duration::from_millis(120);

/// Length of a bar for work whose share is told.
pub(crate) const STEPS: u64 = 1000;

fn bar(template: &str, hidden: bool) -> ProgressBar {
    // Tests and logs are no place for a bar, and JSON means that a program reads.
    if hidden || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // Whatever ends the work, an error above all, is written where the bar was.
    let bar = bar.with_style(style).with_finish(ProgressFinish::AndClear);
    bar.enable_steady_tick(TICK);
    bar
}

/// A bar that counts parts of a whole.
pub(crate) fn parts(what: &str, hidden: bool) -> ProgressBar {
    let bar = bar("{msg} {wide_bar} {percent:>3} % {eta}", hidden);
    bar.set_message(what.to_owned());
    bar
}

/// A bar that counts bytes.
pub(crate) fn bytes(hidden: bool) -> ProgressBar {
    let counts = "{binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}";
    bar(&format!("{{msg}} {{wide_bar}} {counts}"), hidden)
}

/// Something turns until it is done.
pub(crate) fn busy(what: &str, hidden: bool) -> ProgressBar {
    let bar = bar("{spinner} {msg}", hidden);
    bar.set_message(what.to_owned());
    bar
}
