//! What is done before the power fails.

use klamm::storage::{Checkpoint, LogOptions};

use super::run::{Run, Setup};
use crate::random::Random;

type Workload = fn(&mut Run);

/// All that have a name.
pub const ALL: &[(&str, Workload)] = &[
    ("append, each flushed", append_each_flushed),
    ("append, flushed now and then", append_flushed_now_and_then),
    ("flushes that overlap appends and rolls", overlapping_flushes),
    ("rolls without a batch between", rolls),
    ("retention", retention),
    ("delete records", delete_records),
    ("truncation", truncation),
    ("truncation of everything", truncation_of_everything),
    ("clean stops", clean_stops),
    ("clean stop of logs that nobody wrote to", clean_stop_of_unwritten_logs),
    ("killed and restarted", killed_and_restarted),
    ("transactions", transactions),
    ("idempotent producers", idempotent_producers),
    ("leader epochs", leader_epochs),
    ("topics that come and go", topics_that_come_and_go),
    ("several directories", several_directories),
    ("preallocated files", preallocated_files),
];

/// Small enough that everything happens often.
fn small() -> Setup {
    let options = LogOptions {
        segment_bytes: 700,
        segment_index_bytes: 240,
        index_interval_bytes: 150,
        retention_bytes: 1_500,
        retention_ms: -1,
        file_delete_delay_ms: 1_000,
        ..LogOptions::default()
    };
    Setup { directories: 1, options }
}

/// What a named workload runs on.
pub fn setup_of(name: &str) -> Setup {
    let mut setup = small();
    match name {
        "append, each flushed" => setup.options.flush_messages = 1,
        "several directories" => setup.directories = 3,
        "preallocated files" => setup.options.preallocate = true,
        _ => {}
    }
    setup
}

fn append_each_flushed(run: &mut Run) {
    run.create("t-0");
    for count in 1..=14 {
        run.append("t-0", 1 + count % 3);
        run.flush("t-0");
    }
    run.checkpoint(Checkpoint::RecoveryPoint);
    for _ in 0..3 {
        run.append("t-0", 1);
        run.flush("t-0");
    }
}

fn append_flushed_now_and_then(run: &mut Run) {
    run.create("t-0");
    for round in 0..4 {
        for count in 1..=6 {
            run.append("t-0", 1 + count % 4);
        }
        if round != 1 {
            run.flush("t-0");
        }
        if round == 2 {
            run.checkpoint(Checkpoint::RecoveryPoint);
        }
    }
    for _ in 0..8 {
        run.append("t-0", 2);
    }
}

fn overlapping_flushes(run: &mut Run) {
    run.create("t-0");
    for round in 0..5 {
        run.append("t-0", 2);
        let ticket = run.begin_flush("t-0");
        for _ in 0..round {
            run.append("t-0", 3);
        }
        if round == 3 {
            let end = run.end_of("t-0");
            run.truncate("t-0", end - 2);
        }
        if let Some(ticket) = ticket {
            run.finish_flush("t-0", &ticket);
        }
        run.checkpoint(Checkpoint::RecoveryPoint);
    }
    run.flush("t-0");
}

fn rolls(run: &mut Run) {
    run.create("t-0");
    for round in 0..4 {
        run.append("t-0", 2);
        run.append("t-0", 1);
        if round % 2 == 0 {
            run.flush("t-0");
        }
        run.roll("t-0");
        run.checkpoint(Checkpoint::RecoveryPoint);
        if round == 2 {
            run.flush("t-0");
            run.checkpoint(Checkpoint::RecoveryPoint);
        }
    }
    run.append("t-0", 1);
    run.flush("t-0");
    run.checkpoint(Checkpoint::RecoveryPoint);
}

fn retention(run: &mut Run) {
    run.create("t-0");
    for round in 0..5 {
        for _ in 0..8 {
            run.append("t-0", 2);
        }
        if round % 2 == 0 {
            run.flush("t-0");
            run.checkpoint(Checkpoint::RecoveryPoint);
        }
        run.retain("t-0");
        run.pass(600);
        if round == 3 {
            run.checkpoint(Checkpoint::LogStartOffset);
        }
    }
    run.pass(10_000);
    run.append("t-0", 1);
    run.flush("t-0");
}

fn delete_records(run: &mut Run) {
    run.create("t-0");
    for round in 1..=4 {
        for _ in 0..6 {
            run.append("t-0", 2);
        }
        if round != 2 {
            run.flush("t-0");
        }
        let end = run.end_of("t-0");
        run.delete_records("t-0", end - 5);
        run.checkpoint(Checkpoint::LogStartOffset);
        run.retain("t-0");
        run.checkpoint(Checkpoint::RecoveryPoint);
        run.pass(2_000);
        run.checkpoint(Checkpoint::LogStartOffset);
    }
    let end = run.end_of("t-0");
    run.delete_records("t-0", end);
    run.checkpoint(Checkpoint::LogStartOffset);
    run.append("t-0", 1);
    run.flush("t-0");
}

fn truncation(run: &mut Run) {
    run.create("t-0");
    for round in 0..4 {
        for _ in 0..9 {
            run.append_of("t-0", 2, 1 + round % 2, false);
        }
        if round != 1 {
            run.flush("t-0");
            run.checkpoint(Checkpoint::RecoveryPoint);
        }
        let end = run.end_of("t-0");
        run.truncate("t-0", end - 3 - 4 * round);
        run.pass(2_000);
        run.append("t-0", 2);
        if round != 2 {
            run.flush("t-0");
        }
    }
    run.append("t-0", 2);
    run.flush("t-0");
    run.checkpoint(Checkpoint::RecoveryPoint);
}

fn truncation_of_everything(run: &mut Run) {
    run.create("t-0");
    for round in 1..=3 {
        for _ in 0..6 {
            run.append("t-0", 2);
        }
        run.flush("t-0");
        run.checkpoint(Checkpoint::RecoveryPoint);
        let end = run.end_of("t-0");
        run.truncate_fully("t-0", end + 10 * round);
        run.append("t-0", 1);
        run.flush("t-0");
        run.checkpoint(Checkpoint::RecoveryPoint);
    }
}

fn clean_stops(run: &mut Run) {
    run.create("t-0");
    run.create("u-1");
    for round in 0..3 {
        for _ in 0..7 {
            run.append_of("t-0", 2, 5, false);
        }
        if round == 1 {
            run.flush("t-0");
            run.append("u-1", 1);
        }
        run.stop();
        run.start();
    }
    run.append("t-0", 2);
    run.append("u-1", 2);
    run.flush("u-1");
}

fn clean_stop_of_unwritten_logs(run: &mut Run) {
    run.create("t-0");
    run.create("u-1");
    run.stop();
    run.start();
    run.append("t-0", 2);
    run.flush("t-0");
    run.stop();
    run.start();
    run.append("u-1", 2);
    run.flush("u-1");
    run.append("t-0", 2);
    run.flush("t-0");
}

fn killed_and_restarted(run: &mut Run) {
    run.create("t-0");
    for round in 0..4 {
        for _ in 0..5 {
            run.append_of("t-0", 2, 5, false);
        }
        if round % 2 == 1 {
            run.flush("t-0");
            run.checkpoint(Checkpoint::RecoveryPoint);
        }
        run.append("t-0", 1);
        run.kill();
        run.start();
    }
    run.append("t-0", 1);
    run.flush("t-0");
    run.stop();
    run.start();
}

fn transactions(run: &mut Run) {
    run.create("t-0");
    for round in 0..6 {
        run.append_of("t-0", 2, 7, true);
        run.append_of("t-0", 1, 8, true);
        run.append("t-0", 1);
        run.end("t-0", 7, round % 2 == 0);
        if round % 3 == 1 {
            run.flush("t-0");
            run.checkpoint(Checkpoint::RecoveryPoint);
        }
        run.end("t-0", 8, round % 3 == 0);
        if round == 3 {
            run.stop();
            run.start();
        }
    }
    run.append_of("t-0", 1, 7, true);
    run.flush("t-0");
    let end = run.end_of("t-0");
    run.truncate("t-0", end - 3);
    run.append("t-0", 1);
    run.flush("t-0");
}

fn idempotent_producers(run: &mut Run) {
    run.create("t-0");
    for round in 0..5 {
        for id in 1..=4 {
            run.append_of("t-0", 1 + (id as usize % 2), id, false);
        }
        if round % 2 == 0 {
            run.flush("t-0");
        }
        if round == 3 {
            run.checkpoint(Checkpoint::RecoveryPoint);
            run.retain("t-0");
        }
    }
}

fn leader_epochs(run: &mut Run) {
    run.create("t-0");
    for round in 0..5 {
        run.elect("t-0");
        if round != 2 {
            run.append("t-0", 2);
            run.append("t-0", 1);
        }
        if round % 2 == 0 {
            run.flush("t-0");
            run.checkpoint(Checkpoint::RecoveryPoint);
        }
    }
    run.delete_records("t-0", 4);
    run.append("t-0", 2);
    run.flush("t-0");
}

fn topics_that_come_and_go(run: &mut Run) {
    run.create("t-0");
    run.create("u-0");
    for _ in 0..5 {
        run.append("t-0", 2);
        run.append("u-0", 2);
    }
    run.flush("u-0");
    run.delete("t-0");
    run.create("t-0");
    run.pass(2_000);
    run.append("t-0", 1);
    run.flush("t-0");
    run.delete("u-0");
    run.pass(2_000);
    run.create("u-0");
    run.append("u-0", 1);
    run.delete("t-0");
    run.create("t-0");
    run.append("t-0", 1);
}

fn several_directories(run: &mut Run) {
    for index in 0..5 {
        run.create(&format!("t-{index}"));
    }
    for round in 0..3 {
        for index in 0..5 {
            let name = format!("t-{index}");
            run.append(&name, 2);
            if (index + round) % 2 == 0 {
                run.flush(&name);
            }
        }
        run.checkpoint(Checkpoint::RecoveryPoint);
    }
    run.stop();
    run.start();
    run.append("t-3", 1);
    run.flush("t-3");
}

fn preallocated_files(run: &mut Run) {
    run.create("t-0");
    for round in 0..3 {
        for _ in 0..6 {
            run.append("t-0", 2);
        }
        if round == 1 {
            run.flush("t-0");
            run.checkpoint(Checkpoint::RecoveryPoint);
        }
    }
    run.stop();
    run.start();
    run.append("t-0", 2);
    run.flush("t-0");
}

/// A setup for [`random`].
pub fn draw_setup(random: &mut Random) -> Setup {
    let mut setup = small();
    setup.directories = 1 + random.below(2);
    setup.options.segment_bytes = [400, 700, 2_000][random.below(3)];
    setup.options.index_interval_bytes = [1, 150, 4_096][random.below(3)];
    setup.options.preallocate = random.one_in(4);
    setup.options.flush_messages = if random.one_in(3) { 1 } else { i64::MAX };
    setup
}

/// Anything, in any order.
pub fn random(run: &mut Run, random: &mut Random) {
    const NAMES: [&str; 2] = ["t-0", "u-3"];
    NAMES.into_iter().for_each(|name| run.create(name));
    for _ in 0..60 {
        let name = NAMES[random.below(2)];
        let end = run.end_of(name);
        match random.below(40) {
            0..=11 => run.append(name, 1 + random.below(4)),
            12..=17 => run.append_of(name, 1 + random.below(2), 1 + random.below(3) as i64, false),
            18..=20 => run.append_of(name, 1, 7, true),
            21 | 22 => run.end(name, 7, random.one_in(2)),
            23..=27 => run.flush(name),
            28 | 29 => run.checkpoint(Checkpoint::RecoveryPoint),
            30 => run.checkpoint(Checkpoint::LogStartOffset),
            31 => run.roll(name),
            32 => run.retain(name),
            33 => {
                let start = run.log(name).log_start_offset().0;
                run.delete_records(name, start + (end - start) / 2);
            }
            34 => {
                let start = run.log(name).log_start_offset().0;
                run.truncate(name, end - (end - start).min(random.below(6) as i64));
            }
            35 => run.pass(500 + random.below(2_000) as i64),
            36 => run.elect(name),
            37 => {
                run.stop();
                run.start();
            }
            38 => {
                run.kill();
                run.start();
            }
            _ => {
                run.delete(name);
                run.create(name);
            }
        }
    }
}
