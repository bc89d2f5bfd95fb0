//! Replies: one code, one or more lines (RFC 959, section 4.2).

use bytes::{Buf, BytesMut};

/// A reply, libunftp's or our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three-digit code.
    pub code: u16,
    /// Its lines, without code and line end; at least one.
    pub lines: Vec<String>,
}

impl Reply {
    /// A reply of one line.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self {
            code,
            lines: vec![text.into()],
        }
    }

    /// A reply of several lines; the first and the last carry the code, those between are
    /// indented, so that none can look like the last.
    #[must_use]
    pub fn multi(code: u16, lines: Vec<String>) -> Self {
        Self { code, lines }
    }

    /// Whether it is a 1xx: another reply will follow.
    #[must_use]
    pub fn is_preliminary(&self) -> bool {
        self.code / 100 == 1
    }

    /// Whether it is a 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code / 100 == 2
    }

    /// The class as a metric label: `2xx`.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self.code / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        }
    }

    /// How a reply of several lines begins on the wire, where it is sent piece by piece: lines
    /// [amid it](Self::amid_many) follow, and a [`new`](Self::new) one with the same code ends it.
    #[must_use]
    pub fn first_of_many(code: u16, text: &str) -> String {
        format!("{code}-{}\r\n", shown(text))
    }

    /// A line between the first and the last, as it goes over the wire.
    #[must_use]
    pub fn amid_many(text: &str) -> String {
        format!(" {}\r\n", shown(text))
    }

    /// The reply as it goes over the wire, line ends included. Control characters, which could only
    /// come from a foreign key in the bucket, become question marks: no text can end its line.
    #[must_use]
    pub fn to_wire(&self) -> String {
        match self.lines.as_slice() {
            [] => format!("{} \r\n", self.code),
            [only] => format!("{} {}\r\n", self.code, shown(only)),
            [first, between @ .., last] => {
                let mut wire = Self::first_of_many(self.code, first);
                wire.extend(between.iter().map(|line| Self::amid_many(line)));
                wire + &format!("{} {}\r\n", self.code, shown(last))
            }
        }
    }

    /// Takes a whole reply off the front of `buffer`; `None` if it isn't whole yet.
    ///
    /// # Errors
    /// When what is there is no reply.
    pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Self>, Malformed> {
        let mut lines = Vec::new();
        let mut code = None;
        let mut used = 0;
        loop {
            let Some(end) = buffer[used..].iter().position(|byte| *byte == b'\n') else {
                return Ok(None);
            };
            let line = String::from_utf8_lossy(&buffer[used..used + end]);
            let line = line.trim_end_matches('\r');
            used += end + 1;
            let (line_code, last, text) = split(line);
            let code = match code {
                None => *code.insert(line_code.ok_or(Malformed)?),
                Some(code) => code,
            };
            if line_code == Some(code) {
                lines.push(text.to_owned());
                if last {
                    buffer.advance(used);
                    return Ok(Some(Self { code, lines }));
                }
            } else {
                lines.push(line.trim_start().to_owned());
            }
        }
    }
}

/// Without control characters.
fn shown(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\t', "?")
}

/// Bytes that are no reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The code of a line, whether it ends its reply, and the rest.
fn split(line: &str) -> (Option<u16>, bool, &str) {
    match (
        line.get(..3).and_then(|code| code.parse().ok()),
        line.as_bytes().get(3),
    ) {
        (Some(code), Some(b' ')) => (Some(code), true, &line[4..]),
        (Some(code), None) => (Some(code), true, ""),
        (Some(code), Some(b'-')) => (Some(code), false, &line[4..]),
        _ => (None, false, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<Reply>, Malformed> {
        Reply::take(&mut BytesMut::from(text))
    }

    #[test]
    fn replies_of_one_line_and_of_many() {
        assert_eq!(take("220 hi\r\n"), Ok(Some(Reply::new(220, "hi"))));
        let lines = vec!["a".to_owned(), "b".to_owned(), "End".to_owned()];
        let many = Reply::multi(211, lines);
        assert_eq!(take("211-a\r\n b\r\n211 End\r\n"), Ok(Some(many)));
        assert_eq!(take("200\r\n"), Ok(Some(Reply::new(200, ""))));
    }

    #[test]
    fn half_a_reply_is_waited_for() {
        assert_eq!(take("220 h"), Ok(None));
        assert_eq!(take("211-a\r\n b\r\n"), Ok(None));
    }

    #[test]
    fn what_is_no_reply_is_said_so() {
        assert_eq!(take("hello\r\n"), Err(Malformed));
        assert_eq!(take("é20 x\r\n"), Err(Malformed));
    }

    #[test]
    fn only_the_reply_is_taken() {
        let mut buffer = BytesMut::from("150 a\r\n226 b\r\n");
        assert_eq!(Reply::take(&mut buffer), Ok(Some(Reply::new(150, "a"))));
        assert_eq!(Reply::take(&mut buffer), Ok(Some(Reply::new(226, "b"))));
        assert!(buffer.is_empty());
    }

    #[test]
    fn no_text_can_end_its_line() {
        let reply = Reply::new(550, "a\r\n226 forged\x1b[2J");
        assert_eq!(reply.to_wire(), "550 a??226 forged?[2J\r\n");
    }

    #[test]
    fn no_line_between_can_look_like_the_last() {
        let reply = Reply::multi(211, ["a", "211 b", "End"].map(str::to_owned).to_vec());
        assert_eq!(reply.to_wire(), "211-a\r\n 211 b\r\n211 End\r\n");
    }
}
