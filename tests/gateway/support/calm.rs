//! A panic in a gateway is the end of one task, which nobody outside would notice: here it is noticed.

use std::sync::{Mutex, Once};

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Fails its test, when it is dropped, if anything but a test has panicked in this process.
#[derive(Debug)]
pub(crate) struct Calm;

impl Calm {
    pub(crate) fn watch() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                let place = panic
                    .location()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                if !place.contains("tests/") {
                    PANICS.lock().expect("panics").push(panic.to_string());
                }
                usual(panic);
            }));
        });
        Self
    }
}

impl Drop for Calm {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let panics = PANICS.lock().expect("panics");
            assert!(panics.is_empty(), "something panicked: {panics:?}");
        }
    }
}
