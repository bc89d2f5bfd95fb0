//! Kept uploads, and the memory that they hold.

use std::time::Duration;

use object_store::path::Path;

use crate::storage::harness::storage;
use crate::storage::store::description::Description;
use crate::storage::store::mark::Lineage;
use crate::storage::store::precondition::Precondition;
use crate::storage::write::handover::Owner;
use crate::storage::write::writer::Plan;

/// Of two under one name the former is not wanted any more, wherever it is. Its memory is there again.
#[tokio::test]
async fn an_upload_that_is_overtaken_while_it_is_parked_gives_its_memory_back() {
    let settings = [("STORE__URL", "memory://"), ("UPLOAD__RESUME_WINDOW", "1m")];
    let storage = storage(&settings);
    let unfinished = storage.unfinished.clone().unwrap();
    let (owner, key) = (Owner::new("anna", [192, 0, 2, 1].into()), Path::from("a"));
    let writer = || {
        let plan = Plan {
            key: key.clone(),
            unique: None,
            base: None,
            precondition: Precondition::Absent,
            lineage: Lineage::default(),
            said: None,
            only: None,
            max_size: None,
        };
        storage.writers.begin(plan, Description::default(), None)
    };
    let before = unfinished.memory_left();
    unfinished.keep(&owner, writer());
    unfinished.keep(&owner, writer());
    unfinished.forget(&key).await;
    for _ in 0..1000 {
        if unfinished.memory_left() == before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{} of {before}", unfinished.memory_left());
}
