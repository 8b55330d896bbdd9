//! Power cuts and failing disks: each workload runs once on a disk in memory; then the power is cut at every call
//! that changes something, with every way of losing what was not synced, and the directory is opened again.
//!
//! `KLAMM_POWER_CUTS=n` takes n seeds where `cargo test` takes one or two, and says how much was run.

mod broker;
mod check;
mod faults;
mod metadata;
mod run;
mod story;
mod workloads;

use std::panic::{AssertUnwindSafe, catch_unwind};

use klamm::storage::hostile::{Moment, Survival};

use crate::random::Random;
use check::check;
use run::Run;

/// How many seeds each random test takes.
fn seeds(few: u64) -> u64 {
    std::env::var("KLAMM_POWER_CUTS").map_or(few, |text| text.parse().expect("KLAMM_POWER_CUTS is a number"))
}

/// What was tried.
#[derive(Default)]
struct Count {
    workloads: u64,
    moments: u64,
    restarts: u64,
    broken: Vec<String>,
}

impl Count {
    /// Cuts the power at every moment of a run, in every way.
    fn cut_everywhere(&mut self, name: &str, run: &Run, moments: &[Moment], seeds: u64) {
        self.workloads += 1;
        let before = self.broken.len();
        // Without the variable, every third.
        let step = if seeds == 0 { 3 } else { 1 };
        for moment in moments.iter().skip(moments.len() % step).step_by(step) {
            self.moments += 1;
            let expected = run.story.at(moment.change);
            for survival in survivals(moment.change, seeds) {
                self.restarts += 1;
                let checked =
                    catch_unwind(AssertUnwindSafe(|| check(&moment.restart(survival), run.setup, &expected)));
                let broken = match checked {
                    Ok(Ok(())) => continue,
                    Ok(Err(broken)) => broken,
                    Err(panic) => panic_text(&*panic),
                };
                self.broken.push(format!("{name}: {moment:?}, {survival:?}: {broken}"));
                if self.broken.len() - before >= 3 {
                    return;
                }
            }
        }
    }

    fn finish(self, what: &str) {
        eprintln!(
            "{what}: {} workloads, {} cuts, {} restarts, {} broken promises",
            self.workloads,
            self.moments,
            self.restarts,
            self.broken.len()
        );
        assert!(self.broken.is_empty(), "{}", self.broken.join("\n"));
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?"))
}

/// Every way of losing things, with so many seeds; or with none of them, one way that differs from moment to moment.
fn survivals(moment: u64, seeds: u64) -> Vec<Survival> {
    let plain = [Survival::Nothing, Survival::Everything, Survival::Names, Survival::Contents];
    let drawn = (0..seeds.max(1)).flat_map(move |seed| {
        let seed = moment * 1_000_003 + seed;
        [Survival::Torn(seed), Survival::Seeded(seed), Survival::Seeded(!seed)]
    });
    let all: Vec<Survival> = plain.into_iter().chain(drawn).collect();
    if seeds == 0 { vec![all[(moment * 5 % 7) as usize]] } else { all }
}

#[test]
fn nats_2_12_1_a_every_workload_keeps_its_promises_through_a_power_cut_at_every_call() {
    let mut count = Count::default();
    for (name, workload) in workloads::ALL {
        let mut run = Run::new(workloads::setup_of(name));
        run.disk.record();
        workload(&mut run);
        let moments = run.disk.moments();
        count.cut_everywhere(name, &run, &moments, seeds(0));
    }
    count.finish("named workloads");
}

#[test]
fn random_workloads_keep_their_promises_through_power_cuts() {
    let mut count = Count::default();
    for seed in 0..seeds(3) {
        let mut random = Random::from_seed(seed);
        let mut run = Run::new(workloads::draw_setup(&mut random));
        run.disk.record();
        workloads::random(&mut run, &mut random);
        let moments = run.disk.moments();
        count.cut_everywhere(&format!("seed {seed}"), &run, &moments, seeds(0).min(1));
    }
    count.finish("random workloads");
}

/// A recovery that is cut, and the one after it that is cut, lose nothing that the first cut had left.
#[test]
fn recovery_may_be_cut_at_every_call_too() {
    let mut count = Count::default();
    for (name, workload) in workloads::ALL {
        let mut run = Run::new(workloads::setup_of(name));
        run.disk.record();
        workload(&mut run);
        let moments = run.disk.moments();
        let mut random = Random::from_seed(moments.len() as u64);
        for _ in 0..seeds(1).min(moments.len() as u64) {
            let moment = &moments[random.below(moments.len())];
            let survival = Survival::Seeded(random.next());
            let disk = moment.restart(survival);
            disk.record();
            let expected = run.story.at(moment.change);
            let opened = catch_unwind(AssertUnwindSafe(|| check(&disk, run.setup, &expected)));
            if let Err(broken) = opened.map_err(|panic| panic_text(&*panic)).and_then(|checked| checked) {
                count.broken.push(format!("{name}: {moment:?}, {survival:?}: {broken}"));
                continue;
            }
            for second in disk.moments().into_iter().step_by(if seeds(0) == 0 { 9 } else { 1 }) {
                count.moments += 1;
                for survival in survivals(second.change, seeds(0).min(1)) {
                    count.restarts += 1;
                    let again = catch_unwind(AssertUnwindSafe(|| {
                        check(&second.restart(survival), run.setup, &expected.after_recovery())
                    }));
                    if let Err(broken) = again.map_err(|panic| panic_text(&*panic)).and_then(|again| again) {
                        count
                            .broken
                            .push(format!("{name}: {moment:?}, then {second:?}, {survival:?}: {broken}"));
                    }
                }
            }
        }
        count.workloads += 1;
        count.broken.truncate(20);
    }
    count.finish("recoveries");
}
