//! Ctrl-C, and the signals that end a service: the first asks the work to end, the second ends the
//! program.
//!
//! Work that was cut leaves nothing that is taken for whole, so ending at once is safe as well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use crate::failure::{Code, Failure};

static ASKED: AtomicBool = AtomicBool::new(false);
static ACTION: Mutex<Option<Action>> = Mutex::new(None);
static INSTALLED: Once = Once::new();

type Action = Box<dyn Fn() + Send>;

/// From now on Ctrl-C, SIGTERM and SIGHUP ask instead of killing. Called when there is work that
/// can be asked to end; reading standard input cannot.
pub(crate) fn watch() {
    INSTALLED.call_once(|| {
        // Without a handler Ctrl-C kills, which is safe too.
        let _ = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(Code::Interrupted as u8));
            }
            if let Some(action) = &*ACTION.lock().unwrap_or_else(PoisonError::into_inner) {
                action();
            }
        });
    });
}

/// Whether somebody asked.
pub(crate) fn is_asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// An error if somebody asked.
pub(crate) fn check() -> Result<(), Failure> {
    if is_asked() { Err(Failure::interrupted()) } else { Ok(()) }
}

/// Forgets that somebody asked: what was asked to end has ended.
pub(crate) fn clear() {
    ASKED.store(false, Ordering::SeqCst);
}

/// What Ctrl-C does besides being noted, until the guard is dropped. If somebody asked already, it
/// is done at once.
#[must_use]
pub(crate) fn on_ask(action: impl Fn() + Send + 'static) -> Guard {
    let mut place = ACTION.lock().unwrap_or_else(PoisonError::into_inner);
    if is_asked() {
        action();
    }
    *place = Some(Box::new(action));
    Guard
}

/// See [`on_ask`].
#[derive(Debug)]
pub(crate) struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        *ACTION.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
