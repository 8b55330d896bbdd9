//! One partition on three to five brokers in a simulated world: messages late, lost and twice, metadata that arrives
//! late, brokers that stop, crash and forget what was not synced. `KLAMM_SEEDS=100000 cargo test --release --test it
//! replication::` is the long run; `KLAMM_SEED=n` repeats one seed, with its last steps where it breaks something.

mod broker;
mod controller;
mod pair;
mod world;

use world::{Flaw, World};

/// How many seeds a test runs where nothing else is said.
const SEEDS: u64 = 60;

/// How many events a seed has where nothing else is said.
const STEPS: u64 = 2_000;

/// How many seeds a mistake that is put back may take to be found.
const SEEDS_TO_FIND: u64 = 10_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn kip_101_acknowledged_records_survive_every_change_of_leaders() {
    let steps = number("KLAMM_STEPS", STEPS);
    if let Ok(seed) = std::env::var("KLAMM_SEED") {
        World::new(seed.parse().unwrap(), None, true).run_and_recover(steps);
        return;
    }
    let mut acknowledged = 0;
    for seed in 0..number("KLAMM_SEEDS", SEEDS) {
        let mut world = World::new(seed, None, false);
        world.run_and_recover(steps);
        acknowledged += world.acknowledged();
    }
    assert!(acknowledged > 0, "a simulation in which nothing is acknowledged shows nothing");
    eprintln!("{acknowledged} records acknowledged");
}

/// Runs seeds until one breaks something; how many it took.
fn seeds_to_find(flaw: Flaw) {
    let is_found = |seed: &u64| {
        let run = || World::new(*seed, Some(flaw), false).run_and_recover(STEPS);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
    };
    let found = (0..SEEDS_TO_FIND).find(is_found);
    let seeds = found.unwrap_or_else(|| panic!("{flaw:?} was not found in {SEEDS_TO_FIND} seeds")) + 1;
    eprintln!("{flaw:?} was found with {seeds} seeds");
}

#[test]
fn kafka_1211_truncation_to_the_high_watermark_is_found() {
    seeds_to_find(Flaw::TruncatesToHighWatermark);
}

#[test]
fn kafka_6361_kip_279_a_single_look_for_the_divergence_is_found() {
    seeds_to_find(Flaw::AsksOnce);
}

#[test]
fn kafka_7415_a_leader_without_an_epochs_start_is_found() {
    seeds_to_find(Flaw::NotesNoEpochStart);
}

#[test]
fn kafka_14139_kip_903_a_wiped_replica_that_comes_back_by_an_old_fetch_is_found() {
    seeds_to_find(Flaw::IgnoresBrokerEpochs);
}

#[test]
fn kafka_15221_eligibility_judged_on_two_states_is_found() {
    seeds_to_find(Flaw::MixesReplicaStates);
}

#[test]
fn kafka_18106_kafka_18635_an_unclean_restart_that_stays_eligible_is_found() {
    seeds_to_find(Flaw::TrustsUncleanRestarts);
}

#[test]
fn kip_966_a_commit_below_min_isr_is_found() {
    seeds_to_find(Flaw::CommitsBelowMinIsr);
}

#[test]
fn kafka_9835_a_read_above_the_high_watermark_is_found() {
    seeds_to_find(Flaw::ReadsToTheEnd);
}

#[test]
fn kafka_2143_a_replica_ahead_that_begins_anew_is_found() {
    seeds_to_find(Flaw::BeginsAnewWhenAhead);
}

#[test]
fn kafka_18723_a_corrupt_batch_that_is_stored_is_found() {
    seeds_to_find(Flaw::StoresWhatComes);
}

#[test]
fn a_shrink_that_counts_before_it_is_decided_is_found() {
    seeds_to_find(Flaw::ShrinksAlone);
}
