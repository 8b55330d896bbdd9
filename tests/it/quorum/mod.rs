//! The quorum in a simulated world. `KLAMM_SEEDS=100000 cargo test --release --test it quorum::` is the long run;
//! `KLAMM_SEED=n` repeats one seed, with its last steps where it breaks something.

mod log;
mod wire;
mod world;

use crate::random::Random;
use world::{Weather, World};

/// How many seeds a test runs where nothing else is said.
const SEEDS: u64 = 60;

/// How many events a seed has where nothing else is said.
const STEPS: u64 = 2_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn runs(weather: Weather) {
    let steps = number("KLAMM_STEPS", STEPS);
    if let Ok(seed) = std::env::var("KLAMM_SEED") {
        one(seed.parse().unwrap(), weather, steps, true);
        return;
    }
    let (mut events, mut agreed) = (0, 0);
    for seed in 0..number("KLAMM_SEEDS", SEEDS) {
        let world = one(seed, weather, steps, false);
        events += world.steps;
        agreed += world.agreed();
    }
    assert!(agreed > 0, "a simulation in which nothing is agreed on shows nothing");
    eprintln!("{weather:?}: {events} events, {agreed} batches agreed on");
}

fn one(seed: u64, weather: Weather, steps: u64, traced: bool) -> World {
    let mut shape = Random::of(seed ^ 0x5eed);
    let (voters, observers) = (1 + shape.below(5), shape.below(4));
    let mut world = World::new(seed, voters, observers, weather, traced);
    world.run(steps);
    world.must_recover();
    world
}

#[test]
fn a_quorum_in_fair_weather_agrees() {
    runs(Weather { loss: 0, faults: 1, changes: false });
}

#[test]
fn a_quorum_survives_crashes_cuts_and_failing_disks() {
    runs(Weather { loss: 20, faults: 20, changes: false });
}

#[test]
fn a_quorum_survives_wiped_voters_and_changes_of_its_voters() {
    runs(Weather { loss: 20, faults: 30, changes: true });
}
