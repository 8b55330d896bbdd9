//! Proving a log directory sound: every byte of every file is read, in one pass, and held against everything else that
//! says the same. Reads only (but for [`mend_folder`] and [`mend_checkpoints`]), by pread, takes no lock, and works
//! beside a running broker.
//!
//! A [`Plan`] lists the logs of a directory; each [`LogCheck`] is read unit by unit (a segment, or a piece of a large
//! one) on as many threads as the caller has; its [`LogOutcome`] says what was found. [`Plan::conclude`] holds the
//! directory's checkpoints against the outcomes. Memory: a window a thread, plus the largest sound batch; a few bytes
//! for each producer and transaction of the units that are under way; findings up to [`FINDINGS_MAX`] a log.
//!
//! What is damage and what is not: damage is what no start mends, or does not mend in silence, and in a directory that
//! was marked clean anything that is not as a broker leaves it. In one that was not, or that is in use, what the next
//! start mends in silence is a note: bytes behind the last whole batch, zero tails of preallocated indexes, checkpoints
//! that lag. Nothing sound may follow such bytes, though: what recovery would cut off with them is damage.
//!
//! What cannot be seen: a base offset that was changed in a log that was compacted, if the order of offsets is kept; and
//! whole entries that an index lacks (when one is due depends on settings of the time): look-ups read further.

mod beside;
mod context;
mod directory;
mod entries;
mod facts;
mod finding;
mod fold;
mod log;
mod order;
mod producers;
mod quorum;
mod regular;
mod repair;
mod resync;
mod text;
mod together;
mod transactions;
mod unit;
mod window;

pub use context::State;
pub use directory::{Plan, folder_of, is_log_directory};
pub use facts::{Facts, Known, KnownBroker, KnownPartition, KnownQuorum, KnownTopic, state_of};
pub use finding::{FINDINGS_MAX, Finding, Findings, Remedy, Severity};
pub use log::{LogCheck, LogOutcome};
pub use regular::RegularFiles;
pub use repair::{Done, mend_checkpoints, mend_folder, mend_own};
pub use together::{Node, Surveyed};
pub use unit::{Counts, Tools};
