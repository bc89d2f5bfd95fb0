//! A failing history made smaller: what it fails without is left out.
//!
//! Real time has its part in every history, so a smaller one gets several tries to fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adversary::Kind;
use crate::check::{Judgement, check};
use crate::history::History;
use crate::lane::Lane;
use crate::plan::{Plan, Settings};
use crate::world::World;

/// So often a smaller history may try to fail.
const TRIES: usize = 4;

/// For so long it is made smaller.
const PATIENCE: Duration = Duration::from_secs(30);

/// A history that fails, and what is wrong with it.
pub(crate) struct Failure {
    pub(crate) plan: Plan,
    pub(crate) history: History,
    pub(crate) judgement: Judgement,
}

/// Makes a failure as small as it gets in time.
pub(crate) async fn shrink(kind: Kind, lane: Lane, failure: Failure) -> Failure {
    let settings = Settings::of(failure.plan.seed);
    let world = World::open(kind, lane, settings).await;
    let give_up = Instant::now() + PATIENCE;
    let mut smallest = failure;
    'again: while Instant::now() < give_up {
        for plan in smaller(&smallest.plan) {
            if Instant::now() > give_up {
                break 'again;
            }
            if let Some(smaller) = fails(&world, settings, plan).await {
                smallest = smaller;
                continue 'again;
            }
        }
        break;
    }
    world.close().await;
    smallest
}

/// Plans that lack one client, one fault, one kill or one step.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    for client in 0..plan.clients.len() {
        let mut without = plan.clone();
        // Its place stays, so that the others keep their numbers.
        if !std::mem::take(&mut without.clients[client]).is_empty() {
            plans.push(without);
        }
    }
    for strike in 0..plan.strikes.len() {
        let mut without = plan.clone();
        without.strikes.remove(strike);
        plans.push(without);
    }
    for kill in 0..plan.kills.len() {
        let mut without = plan.clone();
        without.kills.remove(kill);
        plans.push(without);
    }
    for strike in 0..plan.failing.len() {
        let mut without = plan.clone();
        without.failing.remove(strike);
        plans.push(without);
    }
    for client in 0..plan.clients.len() {
        for step in 0..plan.clients[client].len() {
            let mut without = plan.clone();
            without.clients[client].remove(step);
            plans.push(without);
        }
    }
    plans
}

async fn fails(world: &Arc<World>, settings: Settings, plan: Plan) -> Option<Failure> {
    for _ in 0..TRIES {
        let history = world.run(&plan).await;
        let judgement = check(&history, settings.deny);
        if !judgement.wrong.is_empty() {
            return Some(Failure {
                plan,
                history,
                judgement,
            });
        }
    }
    None
}
