//! What goes wrong at the store: single requests, told by their operation and number.

use std::time::Duration;

use doubles::{Fault, Strike};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::plan::{Kill, When};

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    Google,
    Azure,
    Local,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::S3, Self::Google, Self::Azure, Self::Local];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "google",
            Self::Azure => "azure",
            Self::Local => "local",
        }
    }

    /// What makes a file of several parts visible.
    fn publication(self) -> &'static str {
        if self == Self::Google {
            "Compose"
        } else {
            "CompleteMultipartUpload"
        }
    }
}

/// At most so many requests of a history go wrong.
const MAX_STRIKES: usize = 10;

/// By how much a request is late, or slow.
const DELAYS: [u64; 5] = [5, 20, 60, 120, LATEST];

/// The longest of them, in milliseconds.
pub(crate) const LATEST: u64 = 200;

/// A gateway that is killed by the clock lives less long than this, in milliseconds.
const MAX_LIFE: u64 = 100;

/// What goes wrong in one history. A folder answers at once and tells the truth.
pub(crate) fn strikes(dice: &mut StdRng, kind: Kind, refuses_conditions: bool) -> Vec<Strike> {
    if kind == Kind::Local {
        return Vec::new();
    }
    let mut strikes = Vec::new();
    for _ in 0..dice.random_range(0..=MAX_STRIKES) {
        strikes.extend(strike(dice, kind, refuses_conditions));
    }
    strikes
}

/// One fault, or an answer that is lost and the refusal that follows.
fn strike(dice: &mut StdRng, kind: Kind, refuses_conditions: bool) -> Vec<Strike> {
    if dice.random_ratio(1, 4) {
        let operation = read(dice);
        let nth = dice.random_range(0..20);
        let fault = fault_of_reads(dice, operation);
        return vec![Strike {
            operation,
            nth,
            fault,
        }];
    }
    let operation = change(dice, kind);
    let nth = dice.random_range(0..if operation == "PutObject" { 10 } else { 4 });
    let first = Strike {
        operation,
        nth,
        fault: fault_of_changes(dice, kind, operation, refuses_conditions),
    };
    if first.fault != Fault::LoseAnswer && dice.random() {
        return vec![first];
    }
    let fault = Fault::Refuse(refusal_after_a_loss(dice, kind, operation));
    let second = Strike {
        operation,
        nth: nth + 1,
        fault,
    };
    vec![first, second]
}

/// A gateway is killed: by the clock, or as soon as the store has a certain request, which may then outlive it.
pub(crate) fn kill(dice: &mut StdRng, kind: Kind, gateways: usize) -> (Kill, Option<Strike>) {
    let gateway = dice.random_range(0..gateways);
    if kind == Kind::Local || dice.random_ratio(1, 3) {
        let when = When::After(Duration::from_millis(dice.random_range(0..MAX_LIFE)));
        return (Kill { gateway, when }, None);
    }
    let operation = change(dice, kind);
    let nth = dice.random_range(0..if operation == "PutObject" { 8 } else { 3 });
    let when = When::Asked { operation, nth };
    (Kill { gateway, when }, outliving(dice, operation, nth))
}

/// Half of the requests that a gateway is killed at are done after its death, and nothing that was to follow.
fn outliving(dice: &mut StdRng, operation: &'static str, nth: usize) -> Option<Strike> {
    let is_slow: bool = dice.random();
    is_slow.then(|| Strike {
        operation,
        nth,
        fault: Fault::Slow(delay(dice)),
    })
}

/// The first gateway is killed at one of the requests that the rename of a directory is made of.
pub(crate) fn kill_of_rename(dice: &mut StdRng, kind: Kind) -> (Kill, Option<Strike>) {
    let gateway = 0;
    if kind == Kind::Local {
        let when = When::After(Duration::from_millis(dice.random_range(0..MAX_LIFE)));
        return (Kill { gateway, when }, None);
    }
    let operations = ["CopyObject", "DeleteObjects", "DeleteObject", "PutObject"];
    let operation = *operations.choose(dice).expect("one");
    // The files come first, by `PutObject`.
    let nth = dice.random_range(if operation == "PutObject" { 2..6 } else { 0..2 });
    let when = When::Asked { operation, nth };
    (Kill { gateway, when }, outliving(dice, operation, nth))
}

fn read(dice: &mut StdRng) -> &'static str {
    let reads = ["HeadObject", "HeadObject", "GetObject", "ListObjectsV2"];
    reads.choose(dice).expect("one")
}

fn change(dice: &mut StdRng, kind: Kind) -> &'static str {
    let changes = [
        "PutObject",
        "PutObject",
        "PutObject",
        "CopyObject",
        "CopyObject",
        "CopyObject",
        "DeleteObject",
        "DeleteObject",
        "DeleteObjects",
        "CreateMultipartUpload",
        "UploadPart",
        kind.publication(),
        kind.publication(),
    ];
    changes.choose(dice).expect("one")
}

fn delay(dice: &mut StdRng) -> Duration {
    Duration::from_millis(*DELAYS.choose(dice).expect("one"))
}

/// Reads may fail, break off or be slow, but they do not lie.
fn fault_of_reads(dice: &mut StdRng, operation: &str) -> Fault {
    let slow = Fault::Slow(delay(dice));
    let broken = Fault::BreakAnswer(if operation == "GetObject" { 30 } else { 0 });
    let faults = [
        slow,
        slow,
        broken,
        Fault::LoseAnswer,
        Fault::Refuse(500),
        Fault::Refuse(503),
    ];
    *faults.choose(dice).expect("one")
}

fn fault_of_changes(
    dice: &mut StdRng,
    kind: Kind,
    operation: &str,
    refuses_conditions: bool,
) -> Fault {
    let delay = delay(dice);
    let mut faults = vec![
        Fault::LoseAnswer,
        Fault::LoseAnswer,
        Fault::LoseAnswer,
        Fault::DoneBut(500),
        Fault::Refuse(500),
        Fault::Refuse(501),
        Fault::Refuse(503),
    ];
    if !refuses_conditions {
        let (late, slow) = (Fault::Late(delay), Fault::Slow(delay));
        faults.extend([late, late, late, slow, slow]);
    }
    if kind == Kind::S3 {
        faults.extend([Fault::Refuse(409), Fault::RefuseBusy]);
        if ["CopyObject", kind.publication()].contains(&operation) {
            faults.extend([Fault::Refuse(200), Fault::SayNothing].repeat(4));
        }
    }
    *faults.choose(dice).expect("one")
}

/// 404 only where it may mean an upload that is complete: of an object it would be a lie.
fn refusal_after_a_loss(dice: &mut StdRng, kind: Kind, operation: &str) -> u16 {
    let statuses: &[u16] = if kind == Kind::S3 && operation == kind.publication() {
        &[403, 404, 500, 503]
    } else {
        &[403, 500, 503]
    };
    *statuses.choose(dice).expect("one")
}
