//! Progress on a terminal.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use modmem_linux::Progress;

/// Draws one bar on standard error, if that is a terminal; draws nothing otherwise.
#[derive(Debug)]
pub(crate) struct Bars {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars {
    pub(crate) fn new() -> Arc<Bars> {
        Arc::new(Bars { bar: Mutex::new(None) })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Option<ProgressBar>) -> T) -> T {
        change(&mut self.bar.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Progress for Bars {
    fn phase(&self, what: &str, total: Option<u64>) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        // At most ten redraws a second, and none for what is over in no time.
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let (bar, style) = match total {
            Some(total) => {
                (ProgressBar::with_draw_target(Some(total), target), "{msg} {wide_bar} {percent:>3} %")
            }
            None => (ProgressBar::with_draw_target(None, target), "{spinner} {msg} {elapsed}"),
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.with(|slot| *slot = Some(bar));
    }

    fn advance(&self, amount: u64) {
        self.with(|slot| {
            if let Some(bar) = slot {
                bar.inc(amount);
            }
        });
    }

    fn done(&self) {
        if let Some(bar) = self.with(Option::take) {
            bar.finish_and_clear();
        }
    }
}
