//! Copies that Azure makes in the background: how long they are waited for.

use std::time::{Duration, Instant};

use http::HeaderMap;

/// How long a copy may make no progress. Azure makes it when it has time.
const STUCK: Duration = Duration::from_hours(1);

/// How far a copy is.
pub(crate) struct CopyWatch {
    /// As Azure says it: bytes, a slash, and how many there are in all.
    progress: String,
    since: Instant,
}

impl CopyWatch {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            progress: String::new(),
            since: now,
        }
    }

    /// Whether the copy is there, by what a `HEAD` says of it; or why it will not be.
    pub(crate) fn is_over(&mut self, headers: &HeaderMap, now: Instant) -> Result<bool, String> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match header("x-ms-copy-status") {
            None | Some("success") => return Ok(true),
            Some("pending") => {}
            Some(status) => return Err(format!("has ended as {status}")),
        }
        let progress = header("x-ms-copy-progress").unwrap_or_default();
        if progress != self.progress {
            progress.clone_into(&mut self.progress);
            self.since = now;
        } else if now - self.since >= STUCK {
            let minutes = STUCK.as_secs() / 60;
            return Err(format!(
                "has been at \"{progress}\" for {minutes} minutes, and is waited for no longer"
            ));
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_waited_for_as_long_as_it_makes_progress() {
        let begun = Instant::now();
        let mut watch = CopyWatch::new(begun);
        let mut look = |status: &'static str, progress: &'static str, minutes| {
            let mut headers = HeaderMap::new();
            headers.insert("x-ms-copy-status", status.parse().unwrap());
            headers.insert("x-ms-copy-progress", progress.parse().unwrap());
            watch.is_over(&headers, begun + Duration::from_mins(minutes))
        };
        assert_eq!(look("pending", "0/9", 0), Ok(false));
        assert_eq!(look("pending", "0/9", 59), Ok(false));
        assert_eq!(look("pending", "5/9", 60), Ok(false));
        assert_eq!(look("pending", "5/9", 119), Ok(false));
        let stuck = look("pending", "5/9", 120).unwrap_err();
        assert!(stuck.contains("5/9"), "{stuck}");
        assert_eq!(look("success", "9/9", 121), Ok(true));
        assert!(look("failed", "5/9", 0).unwrap_err().contains("failed"));
        assert_eq!(watch.is_over(&HeaderMap::new(), begun), Ok(true));
    }
}
