//! The quorum in a simulated world. `KLAMM_SEEDS=100000 cargo test --release --test it quorum::` is the long run;
//! `KLAMM_SEED=n` repeats one seed, with its last steps where it breaks something.

pub mod log;
pub mod wire;
mod world;

use std::cell::RefCell;
use std::rc::Rc;

use klamm::controller::quorum::{
    BeginEpoch, EndEpoch, Endpoint, EpochEnd, Membership, Output, Quorum, QuorumOptions, QuorumSettings,
    ReplicaKey, Request, Response, Vote, Voter, VoterSet,
};
use klamm::types::{LeaderEpoch, Offset, Uuid};

use crate::random::Random;
use log::{Directory, Flaw, MemoryLog};
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
    let mut shape = Random::from_seed(seed ^ 0x5eed);
    let (voters, observers) = (1 + shape.below(5), shape.below(4));
    let mut world = World::new(seed, voters, observers, weather, traced, None);
    world.run(steps);
    world.must_recover();
    world
}

#[test]
fn a_quorum_in_fair_weather_agrees() {
    runs(Weather { loss: 0, faults: 1, changes: false });
}

#[test]
fn s1_3_raft_event_simulation_test_a_quorum_survives_crashes_cuts_and_failing_disks() {
    runs(Weather { loss: 20, faults: 20, changes: false });
}

#[test]
fn kip_853_a_quorum_survives_wiped_voters_and_changes_of_its_voters() {
    runs(Weather { loss: 20, faults: 30, changes: true });
}

/// Runs seeds until one breaks something; how many it took.
fn seeds_to_find(flaw: Flaw) -> u64 {
    let weather = Weather { loss: 20, faults: 40, changes: flaw == Flaw::WipedVoterVotes };
    let is_found = |seed: &u64| {
        let run = || World::new(*seed, 3, 1, weather, false, Some(flaw)).run(4_000);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
    };
    (0..400).find(is_found).unwrap_or_else(|| panic!("{flaw:?} was not found in 400 seeds")) + 1
}

#[test]
fn mistakes_put_back_are_found() {
    let flaws = [Flaw::AcknowledgesBeforeSync, Flaw::WipedVoterVotes, Flaw::SeesNoDivergence];
    for flaw in flaws {
        let seeds = seeds_to_find(flaw);
        eprintln!("{flaw:?} was found by seed {seeds} of its kind");
    }
}

/// A leader without a majority behind it resigns, and those it is cut off from have another one: nobody goes on
/// believing what no majority knows.
#[test]
fn kafka_15489_a_leader_that_is_cut_off_from_the_majority_resigns() {
    for seed in 0..20 {
        let mut world = calm_quorum(seed, 3, 0);
        let leaders = world.leaders();
        assert_eq!(leaders.len(), 1, "seed {seed}");
        world.isolate(leaders[0]);
        world.run_for(8_000);
        let others = world.leaders();
        assert_eq!(others.len(), 1, "seed {seed}: one leads, and it is not the one that is alone");
        assert_ne!(others, leaders, "seed {seed}");
    }
}

fn calm_quorum(seed: u64, voters: usize, observers: usize) -> World {
    let mut world =
        World::new(seed, voters, observers, Weather { loss: 0, faults: 1, changes: false }, false, None);
    world.calm_down();
    world.run_for(20_000);
    world
}

#[test]
fn kip_853_a_voter_that_lost_its_directory_gets_its_place_back() {
    for seed in 0..20 {
        let mut world = calm_quorum(seed, 3, 0);
        let wiped = (world.leaders()[0] + 1) % 3;
        assert!(world.votes(wiped, 3), "seed {seed}");
        world.wipe(wiped);
        assert!(!world.votes(wiped, 3), "seed {seed}");
        world.run_for(60_000);
        assert!(world.votes(wiped, 3), "seed {seed}: it has no vote");
    }
}

#[test]
fn kip_1186_a_controller_asks_for_its_vote_where_it_is_told_to() {
    for seed in 0..20 {
        let mut world = calm_quorum(seed, 1, 2);
        assert!(world.votes(0, 1), "seed {seed}: nobody joins who was not told to");
        world.let_join();
        world.run_for(20_000);
        assert!((0..3).all(|node| world.votes(node, 3)), "seed {seed}");
        world.wipe(1);
        world.run_for(60_000);
        assert!(world.votes(1, 3), "seed {seed}: it has no vote");
    }
}

/// While all is well nobody who is no voter brings the quorum into another epoch.
#[test]
fn s1_8_a_stranger_who_claims_to_lead_or_to_stand_is_not_heard() {
    for seed in 0..5 {
        let mut world = calm_quorum(seed, 3, 0);
        let (leaders, epochs) = (world.leaders(), world.epochs());
        let epoch = LeaderEpoch(epochs[0].0 + 100);
        let stranger = ReplicaKey::new(99, Uuid([9; 16]));
        let voter = ReplicaKey::new(-1, Uuid::ZERO);
        let endpoint = Endpoint { name: "CONTROLLER".to_owned(), host: "node".to_owned(), port: 1 };
        let last = EpochEnd { epoch: LeaderEpoch(epoch.0 - 1), end_offset: Offset(1 << 40) };
        let requests = [
            Request::BeginEpoch(BeginEpoch {
                leader_id: 99,
                epoch,
                voter,
                leader_endpoints: vec![endpoint.clone()],
            }),
            Request::EndEpoch(EndEpoch {
                leader_id: 99,
                epoch,
                preferred: Vec::new(),
                leader_endpoints: vec![endpoint],
            }),
            Request::Vote(Vote { candidate: stranger, voter, epoch, last, pre_vote: false }),
        ];
        for node in 0..3 {
            for request in &requests {
                world.hear(node, request.clone());
            }
        }
        world.run_for(5_000);
        assert_eq!((world.leaders(), world.epochs()), (leaders, epochs), "seed {seed}");
    }
}

/// One node that two others ask for its vote in the same epoch; it crashes in between.
#[test]
fn a_vote_outlives_a_crash() {
    let directory = Rc::new(RefCell::new(Directory { may_vote: true, ..Directory::default() }));
    let key = |id: i32| ReplicaKey::new(id, Uuid([id as u8; 16]));
    let voter = |id: i32| Voter {
        key: key(id),
        endpoints: vec![Endpoint { name: "CONTROLLER".to_owned(), host: "node".to_owned(), port: 9093 }],
        kraft_versions: (0, 1),
    };
    let voters: VoterSet = (1..=3).map(voter).collect();
    let open = || {
        let options = QuorumOptions {
            local: key(1),
            endpoints: Vec::new(),
            bootstrap: Vec::new(),
            membership: Membership::new(voters.clone()),
            state: directory.borrow().state,
            may_vote: true,
            settings: QuorumSettings::default(),
            seed: 1,
        };
        Quorum::open(MemoryLog(Rc::clone(&directory)), options, 0).unwrap()
    };
    let granted = |quorum: &mut Quorum<MemoryLog>, candidate: i32| {
        let last = EpochEnd { epoch: LeaderEpoch(4), end_offset: Offset(9) };
        let vote =
            Vote { candidate: key(candidate), voter: key(1), epoch: LeaderEpoch(5), last, pre_vote: false };
        quorum.take_outputs();
        quorum.request(1, 7, Request::Vote(vote)).unwrap();
        match &quorum.take_outputs()[..] {
            [Output::Answer { response: Response::Vote { granted, .. }, .. }] => *granted,
            other => panic!("{other:?}"),
        }
    };
    let mut quorum = open();
    assert!(granted(&mut quorum, 2) && !granted(&mut quorum, 3) && granted(&mut quorum, 2));
    directory.borrow_mut().crash(0);
    let mut quorum = open();
    assert!(!granted(&mut quorum, 3) && granted(&mut quorum, 2), "one vote an epoch, to the same one");
}
