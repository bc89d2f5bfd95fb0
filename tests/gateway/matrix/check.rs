//! What has to hold after a run.

use bytes::Bytes;
use doubles::Server;

use super::act::Heard;
use super::case::{Case, Cut, Fault, Moment, Step, Trouble};
use super::lane::Lane;

/// The bucket before a run.
pub(super) struct Before {
    pub(super) name: String,
    object: Option<Bytes>,
    tags: Vec<Tag>,
}

/// A key with its object's tag and the mark of its upload, which the same bytes sent again change.
type Tag = (String, Option<String>, Option<String>);

impl Before {
    pub(super) fn of(server: &Server, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            object: server.object(name),
            tags: tags(server),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.object.as_deref().unwrap_or_default()
    }

    /// Not a byte has changed, and not a tag: not even the same bytes were written again.
    fn holds(&self, server: &Server) -> bool {
        server.object(&self.name) == self.object && tags(server) == self.tags
    }

    /// The object is whole, and there is nothing else that was not there before.
    fn holds_but_for(&self, server: &Server, whole: &[u8]) -> bool {
        let (theirs, ours): (Vec<_>, Vec<_>) = tags(server)
            .into_iter()
            .partition(|(key, ..)| *key != self.name);
        let others = self.tags.iter().filter(|(key, ..)| *key != self.name);
        server.object(&self.name).as_deref() == Some(whole)
            && theirs.iter().eq(others)
            && !self.tags.contains(&ours[0])
    }
}

fn tags(server: &Server) -> Vec<Tag> {
    let tag = |key: String| {
        let (tag, mark) = (server.etag(&key), server.metadata(&key, "ferryupload"));
        (key, tag, mark)
    };
    server.keys().into_iter().map(tag).collect()
}

/// 226 if and only if the object is whole; otherwise the bucket is as before. Whether it is whole.
pub(super) fn sentence(
    server: &Server,
    before: &Before,
    whole: &[u8],
    outcome: &str,
    heard: &Heard,
) -> bool {
    let complete = outcome == "complete";
    if let Some(code) = heard.code() {
        assert_eq!(
            code == 226,
            complete,
            "said {code}, counted as {outcome}\n{}",
            heard.transcript
        );
    }
    let held = if complete {
        before.holds_but_for(server, whole)
    } else {
        before.holds(server)
    };
    assert!(
        held,
        "{outcome}, but {}\n{}",
        found(server, before, whole),
        heard.transcript
    );
    complete
}

/// Nothing between the two.
pub(super) fn before_or_whole(server: &Server, before: &Before, whole: &[u8]) -> bool {
    let is_whole = before.holds_but_for(server, whole);
    assert!(
        is_whole || before.holds(server),
        "{}",
        found(server, before, whole)
    );
    is_whole
}

/// A gateway that is killed between storing and saying so has stored. It has not said so without.
pub(super) fn after_a_kill(server: &Server, before: &Before, whole: &[u8], heard: &Heard) -> bool {
    let is_whole = before_or_whole(server, before, whole);
    if heard.code() == Some(226) {
        assert!(is_whole, "226, but as before\n{}", heard.transcript);
    }
    is_whole
}

fn found(server: &Server, before: &Before, whole: &[u8]) -> String {
    let is = server
        .object(&before.name)
        .map_or("missing".to_owned(), |object| match &*object {
            bytes if bytes == whole => "whole".to_owned(),
            bytes if Some(bytes) == before.object.as_deref() => "as before".to_owned(),
            bytes => format!("of {} bytes, neither old nor whole", bytes.len()),
        });
    format!("the object is {is}; keys {:?}", tags(server))
}

/// What clients of a gateway find: the object as a whole or as before, and nothing unfinished.
pub(super) async fn readers_see(lane: &Lane, before: &Before, whole: Option<&[u8]>) {
    let expected = whole.or(before.object.as_deref());
    let mut client = lane.client().await;
    let (names, _) = client.list("NLST", "").await;
    let listed = names.lines().any(|name| name == before.name);
    assert_eq!(listed, expected.is_some(), "{names}");
    let count = before.tags.len() + usize::from(whole.is_some() && before.object.is_none());
    assert_eq!(names.lines().count(), count, "{names}");
    let size = client.command(&format!("SIZE {}", before.name)).await;
    match expected {
        None => assert_eq!(size.code, 550),
        Some(bytes) => {
            assert_eq!(size.text(), format!("213 {}", bytes.len()));
            assert!(client.retrieve(&before.name).await.0 == bytes);
        }
    }
}

/// The run ended as this trouble should end it, and the client was told what was counted.
pub(super) fn outcome(case: &Case, outcome: &str, heard: &Heard) {
    let due = due(case);
    assert!(
        due.contains(&outcome),
        "{outcome}, not one of {due:?}\n{}",
        heard.transcript
    );
    if let Some(code) = heard.code() {
        assert_eq!(code, code_of(outcome), "{outcome}\n{}", heard.transcript);
    }
}

fn code_of(outcome: &str) -> u16 {
    match outcome {
        "complete" => 226,
        "client_abort" | "control_lost" | "data_lost" | "stalled" => 426,
        "store_error" | "store_unreachable" | "unresolved" => 451,
        other => panic!("no upload here may end as {other}"),
    }
}

/// How this run may end.
fn due(case: &Case) -> &'static [&'static str] {
    match case.trouble {
        Trouble::None => &["complete"],
        Trouble::GatewayKilled => &[],
        Trouble::Client(cut) => due_to_client(cut, case.moment),
        // A 500 may have been done, and what was new may have been taken away since.
        Trouble::Store(Step::Put, Fault::Always(500)) if !case.exists() => &["unresolved"],
        Trouble::Store(step, fault) => due_to_store(step, fault),
    }
}

fn due_to_client(cut: Cut, moment: Moment) -> &'static [&'static str] {
    let late = matches!(moment, Moment::Late(_));
    match cut {
        Cut::Abor | Cut::TelnetAbor if late => &["complete", "client_abort"],
        Cut::Abor | Cut::TelnetAbor => &["client_abort"],
        Cut::Killed | Cut::ControlReset | Cut::ControlClosed if late => {
            &["complete", "control_lost"]
        }
        Cut::Killed | Cut::ControlReset | Cut::ControlClosed => &["control_lost"],
        Cut::DataReset => &["data_lost"],
        Cut::Stalled => &["stalled"],
    }
}

fn due_to_store(step: Step, fault: Fault) -> &'static [&'static str] {
    match (step, fault) {
        (Step::Abort, _) => &["client_abort"],
        // It is tried again; what is published can be looked up; the other answers have no body, or one that is read
        // on from where it broke.
        (_, Fault::Once(_) | Fault::LostOnce | Fault::Broken)
        | (Step::Put | Step::Complete, Fault::Lost) => &["complete"],
        (Step::Put, Fault::Silent) => &["unresolved"],
        (_, Fault::Always(_)) => &["store_error"],
        (_, Fault::Lost | Fault::Silent) => &["store_unreachable"],
    }
}
