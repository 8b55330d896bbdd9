//! How fast `klamm verify` reads, beside CRC-32C alone over the same bytes in the page cache: mapped anew each time, and
//! read piece by piece.
//!
//! `cargo bench --bench verify` writes logs of two shapes into `$TMPDIR`; `cargo bench --bench verify -- DIR` takes a
//! directory instead and prints one JSON object. Both sides take turns; the figures are medians of one run. Verifying
//! copies every byte out of the page cache (a file that is cut under a map would kill the process), takes the
//! checksum, and steps over every record.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking and prints")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use klamm::cli::output::Output;
use klamm::cli::verify::Pass;
use klamm::record::{BatchBuilder, Compression};
use klamm::storage::disk::{Access, Disk, DiskFile};
use klamm::storage::{AppendOrigin, Log, LogHome, LogOptions, RealDisk};
use klamm::types::{LeaderEpoch, TopicName, TopicPartition};

const NOW_MS: i64 = 1_700_000_000_000;
const BYTES: u64 = 768 << 20;
const TURNS: usize = 5;

/// Records in a batch, and bytes of each.
const SHAPES: [(usize, usize); 3] = [(1, 100), (128, 100), (900, 1_000)];

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    if let Some(directory) = given {
        let [crc_one, crc_all, read_one, one, all] = measure(Path::new(&directory), cores);
        let json = serde_json::json!({
            "cores": cores, "crc32c_one": crc_one, "crc32c_all": crc_all, "crc32c_read_one": read_one,
            "verify_one": one, "verify_all": all,
        });
        println!("{json}");
        return;
    }
    println!(
        "GB/s          crc32c 1 core  crc32c {cores} cores  crc32c read  verify 1 core  verify {cores} cores  share 1  share {cores}"
    );
    for (count, size) in SHAPES {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), count, size);
        let [crc_one, crc_all, read_one, one, all] = measure(folder.path(), cores);
        let shape = format!("{count} x {size} B");
        let shares = (one / crc_one * 100.0, all / crc_all * 100.0);
        println!(
            "{shape:<13} {crc_one:>13.2}  {crc_all:>14.2}  {read_one:>11.2}  {one:>13.2}  {all:>14.2}  {:>6.0}%  {:>6.0}%",
            shares.0, shares.1
        );
    }
}

fn fill(directory: &Path, count: usize, size: usize) {
    let mut builder = BatchBuilder::new(Compression::NONE);
    for index in 0..count {
        let value: Vec<u8> = (0..size).map(|at| (index * 31 + at * 7) as u8).collect();
        builder.append(NOW_MS, None, Some(&value), []);
    }
    let batch = builder.build().unwrap();
    // Many in one append, as the log's own cost is not what is measured.
    let bytes = batch.repeat((1 << 20) / batch.len() + 1);
    let home = LogHome::new(RealDisk::new());
    let partition = TopicPartition::new(TopicName::new("t").unwrap(), 0);
    let options = LogOptions { segment_bytes: 1 << 30, ..LogOptions::default() };
    let mut log = Log::create(&home, &directory.join("t-0"), partition, None, options, NOW_MS).unwrap();
    while log.size_bytes() < BYTES {
        log.append_as_leader(&bytes, LeaderEpoch(0), AppendOrigin::Client, NOW_MS).unwrap();
    }
    log.close_clean().unwrap();
}

/// GB/s: CRC-32C on one core and all, the same by pread on one core; verifying on one core and all.
fn measure(directory: &Path, cores: usize) -> [f64; 5] {
    let disk = RealDisk::new();
    let logs: Vec<_> =
        logs_below(directory).iter().map(|path| disk.open(path, Access::Read).unwrap()).collect();
    let total: usize = logs.iter().map(|file| file.len().unwrap() as usize).sum();
    let mut seconds = [const { Vec::new() }; 5];
    for _ in 0..TURNS {
        for (slot, threads) in [1, cores].into_iter().enumerate() {
            seconds[slot].push(timed(|| crc_mapped(&logs, threads)));
        }
        seconds[2].push(timed(|| crc_read(&logs)));
        for (slot, threads) in [1, cores].into_iter().enumerate() {
            seconds[3 + slot].push(timed(|| verify(directory, threads, total)));
        }
    }
    seconds.map(|mut turns| {
        turns.sort_by(f64::total_cmp);
        total as f64 / turns[TURNS / 2] / 1e9
    })
}

fn timed(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

fn crc_mapped(logs: &[Arc<dyn DiskFile>], threads: usize) {
    let maps: Vec<_> = logs.iter().map(|file| file.map(file.len().unwrap() as usize).unwrap()).collect();
    let pieces: Vec<&[u8]> = maps.iter().flat_map(|map| map.chunks(32 << 20)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(piece) = pieces.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    divan::black_box(crc32c::crc32c(piece));
                }
            });
        }
    });
}

fn crc_read(logs: &[Arc<dyn DiskFile>]) {
    let mut piece = vec![0; 256 << 10];
    for file in logs {
        let (mut at, mut crc) = (0, 0);
        loop {
            let filled = file.read_at(&mut piece, at).unwrap();
            if filled == 0 {
                break;
            }
            crc = crc32c::crc32c_append(crc, &piece[..filled]);
            at += filled as u64;
        }
        divan::black_box(crc);
    }
}

fn verify(directory: &Path, threads: usize, total: usize) {
    let mut pass = Pass::new(threads);
    pass.add(directory);
    let checked = pass.run(&Output::new());
    let bytes: u64 = checked.iter().map(|one| one.counts.bytes).sum();
    assert_eq!((checked[0].damage, bytes), (0, total as u64), "{:?}", checked[0].findings);
}

fn logs_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(logs_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
    found.sort();
    found
}
