//! What uploads get of the memory, whatever they do.

use futures::FutureExt;
use futures::future::join_all;

use crate::telemetry::Metrics;

use super::*;

const MIB: usize = 1024 * 1024;

/// 2.5 MiB for anyone, 32 first chunks, and one right to finish a part of 1 MiB.
fn budget() -> Budget {
    let metrics = Arc::new(Metrics::new().unwrap());
    let used = metrics.memory_of(crate::memory::Use::Uploads);
    Budget::new(4 * MIB, used, Supervisor::new(&metrics))
}

fn grows(claim: &mut Claim, bytes: usize) -> bool {
    claim.grow(bytes).now_or_never().is_some()
}

/// Claims for all that anyone may have, and for finishing.
fn all_but_the_reserve(budget: &Budget) -> [Claim; 2] {
    let mut claims = [budget.claim(MIB), budget.claim(MIB)];
    assert!(grows(&mut claims[0], 5 * MIB / 2));
    assert!(grows(&mut claims[1], MIB));
    claims
}

fn assert_all_is_back(budget: &Budget) {
    assert_eq!(budget.0.used.get(), 0);
    let state = budget.state();
    assert_eq!(
        (state.free, state.reserve, state.kept),
        (5 * MIB / 2, MIB / 2, MIB)
    );
    assert_eq!(
        (state.in_flight, state.coming, state.slow.held(None)),
        (0, 0, 0)
    );
    assert!(state.waiting.is_empty());
    assert!(state.shares.are_empty());
}

fn slow(can_move: bool) -> Slowness {
    let behind = Duration::from_secs(3);
    Slowness { behind, can_move }
}

#[test]
fn what_is_used_up_is_waited_for() {
    let budget = budget();
    let mut claims: Vec<_> = (0..7).map(|_| budget.claim(MIB)).collect();
    for claim in &mut claims[..5] {
        assert!(grows(claim, MIB / 2));
    }
    assert!(grows(&mut claims[5], MIB), "the right to finish");
    assert!(!grows(&mut claims[6], FIRST_CHUNK + 1));
    assert_eq!(budget.0.used.get(), gauge(7 * MIB / 2));
    drop(claims.remove(0));
    assert!(grows(&mut claims[5], FIRST_CHUNK + 1));
    drop(claims);
    assert_all_is_back(&budget);
}

#[test]
fn first_chunks_have_a_reserve() {
    let budget = budget();
    let full = all_but_the_reserve(&budget);
    let mut small: Vec<_> = (0..33).map(|_| budget.claim(MIB)).collect();
    for claim in &mut small[..32] {
        assert!(grows(claim, FIRST_CHUNK));
    }
    assert!(!grows(&mut small[0], 1), "it is for first chunks alone");
    assert!(!grows(&mut small[32], FIRST_CHUNK), "the reserve is empty");
    drop(full);
    assert!(grows(&mut small[32], FIRST_CHUNK), "there is other memory");
    assert!(grows(&mut small[0], 1));
    assert_eq!(budget.state().reserve, FIRST_CHUNK, "it is large now");
    drop(small);
    assert_all_is_back(&budget);
}

/// Whoever waits with a large part is not in a small file's way.
#[tokio::test]
async fn first_chunks_are_served_first() {
    let budget = budget();
    let full = all_but_the_reserve(&budget);
    let mut large = budget.claim(MIB);
    let mut small = budget.claim(MIB);
    let mut large = Box::pin(large.grow(MIB));
    assert!((&mut large).now_or_never().is_none());
    assert!(grows(&mut small, FIRST_CHUNK));
    drop((full, large, small));
    assert_all_is_back(&budget);
}

#[tokio::test]
async fn the_oldest_part_is_served_first() {
    let budget = budget();
    let full = all_but_the_reserve(&budget);
    let (mut old, mut young) = (budget.claim(MIB), budget.claim(MIB));
    let young = tokio::spawn(async move {
        young.grow(2 * MIB).await;
        young
    });
    tokio::task::yield_now().await;
    let old = tokio::spawn(async move {
        old.grow(2 * MIB).await;
        old
    });
    tokio::task::yield_now().await;
    let [full, finishing] = full;
    drop(full);
    let old = old.await.unwrap();
    tokio::task::yield_now().await;
    assert!(!young.is_finished());
    drop(old);
    drop(young.await.unwrap());
    drop(finishing);
    assert_all_is_back(&budget);
}

/// Memory full of half parts: one after the other gets the right to finish.
#[tokio::test]
async fn half_parts_cannot_block_each_other() {
    let budget = budget();
    let parts = (0..100).map(|_| {
        let mut claim = budget.claim(MIB);
        tokio::spawn(async move {
            for _ in 0..16 {
                claim.grow(MIB / 16).await;
                tokio::task::yield_now().await;
            }
        })
    });
    let all = join_all(parts.collect::<Vec<_>>());
    let ended = tokio::time::timeout(Duration::from_secs(10), all).await;
    assert!(ended.is_ok(), "a deadlock");
    assert_all_is_back(&budget);
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_nothing_behind() {
    let budget = budget();
    let full = all_but_the_reserve(&budget);
    let mut claim = budget.claim(MIB);
    let waiting = tokio::spawn(async move { claim.grow(MIB).await });
    tokio::task::yield_now().await;
    waiting.abort();
    assert!(waiting.await.is_err());
    drop(full);
    assert_all_is_back(&budget);
}

#[test]
fn what_shrinks_gives_back_what_it_had_from_where_it_had_it() {
    let budget = budget();
    let mut claim = budget.claim(MIB);
    assert!(grows(&mut claim, FIRST_CHUNK));
    claim.shrink_by(FIRST_CHUNK - 5);
    assert_eq!(budget.state().reserve, MIB / 2 - 5);
    assert!(grows(&mut claim, FIRST_CHUNK));
    assert_eq!(budget.state().reserve, MIB / 2);
    claim.shrink_to(7);
    assert_eq!(budget.0.used.get(), 7);
    drop(claim);
    assert_all_is_back(&budget);
}

/// A right to finish makes no difference.
#[tokio::test(start_paused = true)]
async fn a_slow_part_that_can_move_is_told_soon() {
    let budget = budget();
    let [full, mut finishing] = all_but_the_reserve(&budget);
    let mut revocable = finishing.revocable(slow(true));
    let mut claim = budget.claim(MIB);
    let waiting = tokio::spawn(async move { claim.grow(MIB).await });
    let started = tokio::time::Instant::now();
    assert_eq!(revocable.revoked().await, Revoked::Gently);
    assert!(started.elapsed() <= 2 * BETWEEN_LOOKS);
    finishing.gives_way();
    finishing.give_back();
    waiting.await.unwrap();
    drop((full, finishing, revocable));
    assert_all_is_back(&budget);
}

#[tokio::test(start_paused = true)]
async fn who_can_not_move_is_ended_when_others_have_waited_for_long() {
    let budget = budget();
    let [full, finishing] = all_but_the_reserve(&budget);
    let mut revocable = full.revocable(slow(false));
    let mut claim = budget.claim(MIB);
    let waiting = tokio::spawn(async move { claim.grow(MIB).await });
    let started = tokio::time::Instant::now();
    assert_eq!(revocable.revoked().await, Revoked::ForGood);
    assert!(started.elapsed() >= LOOKS_BEFORE_AN_END * BETWEEN_LOOKS);
    drop(full);
    waiting.await.unwrap();
    drop((finishing, revocable));
    assert_all_is_back(&budget);
}

/// A store that is slow is no client's fault.
#[tokio::test(start_paused = true)]
async fn nobody_is_ended_for_a_slow_store() {
    let budget = budget();
    let [mut full, finishing] = all_but_the_reserve(&budget);
    full.goes_up();
    let mut revocable = finishing.revocable(slow(false));
    let mut claim = budget.claim(MIB);
    let waiting = tokio::spawn(async move { claim.grow(MIB).await });
    let long = Duration::from_mins(1);
    assert!(
        tokio::time::timeout(long, revocable.revoked())
            .await
            .is_err()
    );
    drop(full);
    waiting.await.unwrap();
    drop((finishing, revocable));
    assert_all_is_back(&budget);
}

/// One that is giving way already is waited for.
#[tokio::test(start_paused = true)]
async fn no_more_are_told_than_it_takes() {
    let budget = budget();
    let mut claims: Vec<_> = (0..3).map(|_| budget.claim(MIB)).collect();
    for claim in &mut claims {
        assert!(grows(claim, MIB));
    }
    let waits = join_all((0..2).map(|_| {
        let mut claim = budget.claim(MIB);
        async move { claim.grow(MIB / 2 + 1).await }
    }));
    let waits = tokio::spawn(waits);
    let mut lists: Vec<_> = claims.iter().map(|c| c.revocable(slow(true))).collect();
    tokio::time::sleep(2 * BETWEEN_LOOKS).await;
    let told = |list: &mut Revocable| list.revoked().now_or_never().is_some();
    let told: Vec<_> = lists.iter_mut().map(told).collect();
    assert_eq!(told.iter().filter(|told| **told).count(), 2);
    let mut given_way = claims.iter_mut().zip(&told).filter(|(_, told)| **told);
    given_way.by_ref().for_each(|(claim, _)| claim.gives_way());
    tokio::time::sleep(10 * BETWEEN_LOOKS).await;
    assert!(
        budget.state().slow.held(None) > 0,
        "what is coming is enough"
    );
    drop((lists, claims));
    waits.await.unwrap();
    assert_all_is_back(&budget);
}

/// A store that never answers has its share of the memory, however many send to it.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_silent_leaves_the_others_their_part() {
    let budget = budget();
    let silent = budget.for_another_store();
    let stuck = (0..40).map(|_| {
        let mut claim = silent.claim(MIB / 4);
        tokio::spawn(async move {
            for _ in 0..4 {
                claim.grow(MIB / 16).await;
                tokio::task::yield_now().await;
            }
            claim.goes_up();
            std::future::pending::<()>().await;
        })
    });
    let stuck: Vec<_> = stuck.collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Its share, and rights beyond it.
    let most = 3 * MIB / 2 + MIB / 2 + MIB / 4;
    let held = usize::try_from(budget.0.used.get()).unwrap();
    assert!(held <= most, "{held} of {most}");
    for _ in 0..100 {
        let mut claim = budget.claim(MIB);
        assert!(grows(&mut claim, MIB), "the other store has to wait");
    }
    for task in stuck {
        task.abort();
        let _ = task.await;
    }
    assert_all_is_back(&budget);
}

/// Parts of one store that are half full do not wait for each other either.
#[tokio::test]
async fn half_parts_of_one_store_of_two_can_not_block_each_other() {
    let budget = budget();
    let store = budget.for_another_store();
    let parts = (0..100).map(|_| {
        let mut claim = store.claim(MIB);
        tokio::spawn(async move {
            for _ in 0..16 {
                claim.grow(MIB / 16).await;
                tokio::task::yield_now().await;
            }
            claim.goes_up();
            tokio::task::yield_now().await;
        })
    });
    let all = join_all(parts.collect::<Vec<_>>());
    let ended = tokio::time::timeout(Duration::from_secs(10), all).await;
    assert!(ended.is_ok(), "a deadlock");
    assert_all_is_back(&budget);
}

/// Many parts, whose clients send, pause, go away or never come back; those that are told give way in
/// one way or the other.
#[tokio::test(start_paused = true)]
async fn whatever_uploads_do_all_of_them_end_and_nothing_leaks() {
    for seed in 0..20 {
        let budget = budget();
        // On one store, and on two.
        let other = if seed % 2 == 0 {
            budget.clone()
        } else {
            budget.for_another_store()
        };
        let uploads = (0..60).map(|index| {
            let store = if index % 3 == 0 { &budget } else { &other };
            let upload = upload(store.clone(), Dice(seed * 1000 + index));
            tokio::time::timeout(Duration::from_secs(300 + index), upload)
        });
        let ended = join_all(uploads).await;
        let quick = ended.iter().step_by(2);
        assert!(
            quick.clone().all(Result::is_ok),
            "a quick one is held up, seed {seed}"
        );
        drop(ended);
        assert_all_is_back(&budget);
        tokio::time::sleep(2 * LOOKS_BEFORE_AN_END * BETWEEN_LOOKS).await;
        assert!(!budget.state().tended, "somebody still looks");
    }
}

/// Every second upload is quick: its client is never waited for. The others stop somewhere.
async fn upload(budget: Budget, mut dice: Dice) {
    let is_quick = dice.0.is_multiple_of(2);
    let can_move = dice.0.is_multiple_of(3);
    let mut claim = budget.claim(MIB);
    let stops_at = if is_quick { 16 } else { dice.roll(16) };
    for step in 0..16 {
        if step == stops_at {
            let mut revocable = claim.revocable(slow(can_move));
            let _ = revocable.revoked().await;
            claim.gives_way();
            tokio::time::sleep(Duration::from_millis(dice.roll(300))).await;
            // It goes up or ends.
            return;
        }
        claim.grow(MIB / 16).await;
        if !is_quick && dice.roll(20) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(dice.roll(20))).await;
    }
    claim.goes_up();
    tokio::time::sleep(Duration::from_millis(dice.roll(500))).await;
}

/// The same numbers every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}
