//! Group commit: threads that sync the logs somebody waits for.
//!
//! A log is in the queue at most once. While one sync runs, appends to that log go on; whoever waits for them
//! is served by the next one, all together.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};
use tracing::error;

use crate::replication::Partition;
use crate::storage::StorageError;

/// Told about a log that could not be synced. Nobody tries again: what reached the disk is unknown.
pub type OnFailure = dyn Fn(&Partition, &StorageError) + Send + Sync;

/// How many logs are synced at the same time.
const THREADS: usize = 2;

/// The queue and its threads.
pub struct Flusher {
    shared: Arc<Shared>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    on_failure: Box<OnFailure>,
}

#[derive(Default)]
struct Queue {
    partitions: VecDeque<Arc<Partition>>,
    closed: bool,
}

impl Flusher {
    /// No thread runs before the first log is queued.
    #[must_use]
    pub fn new(on_failure: Box<OnFailure>) -> Self {
        let shared = Shared { queue: Mutex::default(), filled: Condvar::new(), on_failure };
        Self { shared: Arc::new(shared), threads: Mutex::default() }
    }

    /// Has `partition` synced soon.
    pub fn enqueue(&self, partition: &Arc<Partition>) {
        if !partition.begin_flush_request() {
            return;
        }
        self.shared.queue.lock().partitions.push_back(Arc::clone(partition));
        self.shared.filled.notify_one();
        if let Err(error) = self.start_threads() {
            error!("no thread to flush logs: {error}");
            self.shared.flush(partition);
        }
    }

    fn start_threads(&self) -> io::Result<()> {
        let mut threads = self.threads.lock();
        while threads.len() < THREADS {
            let shared = Arc::clone(&self.shared);
            let builder = thread::Builder::new().name("flush".to_owned()).stack_size(256 << 10);
            threads.push(builder.spawn(move || shared.run())?);
        }
        Ok(())
    }

    /// Syncs what is queued and ends the threads.
    pub fn close(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_all();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                error!("a flushing thread has panicked");
            }
        }
    }
}

impl Shared {
    fn run(&self) {
        while let Some(partition) = self.next() {
            self.flush(&partition);
        }
    }

    fn next(&self) -> Option<Arc<Partition>> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(partition) = queue.partitions.pop_front() {
                return Some(partition);
            }
            if queue.closed {
                return None;
            }
            self.filled.wait(&mut queue);
        }
    }

    fn flush(&self, partition: &Partition) {
        if let Err(error) = partition.flush() {
            (self.on_failure)(partition, &error);
        }
    }
}
