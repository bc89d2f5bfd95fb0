//! What is kept, and the memory that it holds.

use super::*;

/// Whoever parks it gives its memory back.
#[tokio::test]
async fn an_upload_that_is_given_up_while_it_is_parked_keeps_its_memory() {
    let mut state = State {
        uploads: HashMap::new(),
        next: 0,
        memory: 3 * MIN_PART,
    };
    let owner = Owner::new("anna", [192, 0, 2, 1].into());
    let (_parked, parking) = watch::channel(false);
    let mut begin = |name: &str| {
        let window = Duration::from_mins(1);
        let begun = state.begin(&Path::from(name), owner.clone(), parking.clone(), window);
        (begun.memory, state.memory)
    };
    assert_eq!(begin("file"), (MIN_PART, 2 * MIN_PART));
    assert_eq!(begin("file"), (MIN_PART, MIN_PART));
    assert_eq!(begin("other"), (MIN_PART, 0));
}
