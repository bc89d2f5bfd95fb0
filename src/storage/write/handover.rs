//! What another gateway needs to know to go on with an upload: one line of text, and the bytes that are in no part.
//!
//! The line has a checksum of its own, and tells how many bytes follow it and their checksum. What is not exactly as
//! it was written is not understood, and nobody goes on with it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::auth::Origin;
use crate::storage::store::MIN_PART;
use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::mark::Mark;

/// Begins each line. Another version of the gateway that writes something else begins it otherwise.
const FORMAT: &str = "ferry1";

/// No line is longer: ten thousand parts come to half of it.
pub(crate) const MAX_LINE: usize = 4 << 20;

/// Who may go on with an upload: the same user, from the same address. Two devices may share a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Owner {
    user: String,
    peer: IpAddr,
}

impl Owner {
    pub(crate) fn new(user: &str, peer: IpAddr) -> Self {
        Self {
            user: user.to_owned(),
            // A socket for both kinds of addresses shows an old one as a new one.
            peer: peer.to_canonical(),
        }
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// What its address counts as where places are shared.
    pub(crate) fn origin(&self) -> Origin {
        self.peer.into()
    }
}

/// An upload, and which of the sessions that went on with it has it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// The mark that the object is to carry.
    pub(crate) upload: Mark,
    session: Mark,
}

impl Holder {
    /// A new holder of an upload.
    pub(crate) fn of(upload: Mark) -> Self {
        Self {
            upload,
            session: Mark::new(),
        }
    }
}

/// What is safe of an upload: whole parts, from the first on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) parts: usize,
    /// Of all bytes in them.
    pub(crate) sum: Crc64,
}

/// An upload as one gateway hands it over to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandedOver {
    pub(crate) owner: Owner,
    pub(crate) key: String,
    /// When it began, in milliseconds since 1970.
    pub(crate) begun: u64,
    /// The size of each part, where the store wants all to have the same.
    pub(crate) part_size: Option<u64>,
    /// Until when it is kept, in seconds since 1970.
    pub(crate) until: u64,
    pub(crate) holder: Holder,
    /// It was still being sent when this was written.
    pub(crate) is_running: bool,
    pub(crate) progress: Progress,
    /// How the store knows the upload; `None` before its first part.
    pub(crate) upload: Option<String>,
    /// The checksum of the bytes that follow.
    pub(crate) rest: Crc64,
}

impl HandedOver {
    /// How many bytes are safe.
    pub(crate) fn size(&self) -> u64 {
        self.progress
            .sum
            .length()
            .saturating_add(self.rest.length())
    }

    /// Whether its time is over by then.
    pub(crate) fn is_over(&self, at: SystemTime) -> bool {
        seconds(at) > self.until
    }

    /// As it is written, with a line break at its end.
    pub(crate) fn line(&self) -> Option<String> {
        let text = serde_json::to_string(self).ok()?;
        let line = format!("{FORMAT} {:016x} {text}\n", sum(text.as_bytes()));
        (line.len() <= MAX_LINE).then_some(line)
    }

    /// Reads a line, without its break. `None` if it makes no sense.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let (head, text) = line
            .strip_prefix(FORMAT)?
            .strip_prefix(' ')?
            .split_once(' ')?;
        if u64::from_str_radix(head, 16) != Ok(sum(text.as_bytes())) {
            return None;
        }
        let read: Self = serde_json::from_str(text).ok()?;
        read.makes_sense().then_some(read)
    }

    fn makes_sense(&self) -> bool {
        let Progress { parts, sum } = self.progress;
        let has_parts = parts > 0;
        has_parts == self.upload.is_some()
            && has_parts == (sum.length() > 0)
            && self.rest.length() <= MIN_PART as u64
            && self.size() > 0
    }
}

/// The second in which something ends that begins now.
pub(crate) fn ends_after(window: Duration) -> u64 {
    seconds(SystemTime::now() + window)
}

/// A time as a note has it.
pub(crate) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn seconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn sum(bytes: &[u8]) -> u64 {
    Body::from(bytes.to_vec()).crc64.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> HandedOver {
        HandedOver {
            owner: Owner::new("ferry", "203.0.113.7".parse().unwrap()),
            key: "a".to_owned(),
            begun: 5,
            part_size: None,
            until: 10,
            holder: Holder::of(Mark::new()),
            is_running: false,
            progress: Progress {
                parts: 2,
                sum: Crc64::told(1, 7),
            },
            upload: Some("{\"id\":\"\\n\"}".to_owned()),
            rest: Crc64::told(2, 3),
        }
    }

    fn read(of: &HandedOver) -> Option<HandedOver> {
        HandedOver::read(of.line().unwrap().trim_end().as_bytes())
    }

    #[test]
    fn a_line_is_read_as_it_was_written_or_not_at_all() {
        let example = example();
        assert_eq!(example.size(), 10);
        let line = example.line().unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let line = line.trim_end().as_bytes();
        assert_eq!(HandedOver::read(line).unwrap(), example);
        for at in 0..line.len() {
            assert_eq!(HandedOver::read(&line[..at]), None, "{at}");
            let mut damaged = line.to_vec();
            damaged[at] ^= 4;
            assert_eq!(HandedOver::read(&damaged), None, "{at}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_read() {
        let changes: [fn(&mut HandedOver); 5] = [
            |it| it.upload = None,
            |it| it.progress.parts = 0,
            |it| it.progress.sum = Crc64::empty(),
            |it| it.rest = Crc64::told(0, (5 << 20) + 1),
            |it| it.rest = Crc64::told(0, u64::MAX),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut wrong = example();
            change(&mut wrong);
            assert_eq!(read(&wrong), None, "{number}");
        }
        let mut nothing = example();
        (nothing.upload, nothing.progress.parts) = (None, 0);
        nothing.progress.sum = Crc64::empty();
        assert!(read(&nothing).is_some());
        nothing.rest = Crc64::told(0, 5 << 20);
        assert!(read(&nothing).is_some());
        nothing.rest = Crc64::empty();
        assert_eq!(read(&nothing), None);
    }

    #[test]
    fn an_upload_is_kept_for_a_while() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!example().is_over(at(10)) && example().is_over(at(11)));
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        let [old, new] = ["203.0.113.7", "::ffff:203.0.113.7"].map(|peer| peer.parse().unwrap());
        assert_eq!(Owner::new("a", old), Owner::new("a", new));
        assert_ne!(Owner::new("a", old), Owner::new("b", old));
    }
}
