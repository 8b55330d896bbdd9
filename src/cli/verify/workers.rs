//! Units of work, handed out in order to as many threads as there are cores.

use std::io;

use parking_lot::{Condvar, Mutex};

use crate::storage::verify::{LogCheck, Tools};

/// Units of one log that may be read before those in front of them are joined, for each thread: what they found waits
/// in memory.
const AHEAD_MAX: usize = 4;

/// The next unit to be handed out.
#[derive(Default)]
struct Cursor {
    log: usize,
    unit: usize,
}

/// Hands units out.
struct Queue<'a> {
    logs: &'a [LogCheck],
    cursor: Mutex<Cursor>,
    joined: Condvar,
    ahead_max: usize,
}

impl Queue<'_> {
    fn next(&self) -> Option<(usize, usize)> {
        let mut cursor = self.cursor.lock();
        loop {
            let log = self.logs.get(cursor.log)?;
            if cursor.unit >= log.unit_count() {
                *cursor = Cursor { log: cursor.log + 1, unit: 0 };
            } else if cursor.unit >= log.joined() + self.ahead_max {
                self.joined.wait(&mut cursor);
            } else {
                cursor.unit += 1;
                return Some((cursor.log, cursor.unit - 1));
            }
        }
    }
}

/// Reads all units of all logs; what could not be read, by log.
pub(super) fn read_all(
    logs: &[LogCheck],
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Vec<(usize, io::Error)> {
    let queue =
        Queue { logs, cursor: Mutex::default(), joined: Condvar::new(), ahead_max: threads * AHEAD_MAX };
    let failed = Mutex::new(Vec::new());
    let units: usize = logs.iter().map(LogCheck::unit_count).sum();
    let work = || {
        let mut tools = Tools::default();
        while let Some((log, unit)) = queue.next() {
            if let Err(error) = logs[log].read(unit, &mut tools, progress) {
                failed.lock().push((log, error));
            }
            // Under the lock, so that nobody misses it between its look and its wait.
            let _cursor = queue.cursor.lock();
            queue.joined.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(units) {
            scope.spawn(work);
        }
        work();
    });
    failed.into_inner()
}
