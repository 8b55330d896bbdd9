//! What a command says to the shell, and the errors that carry more than "it failed".

use std::fmt;
use std::io;
use std::process::ExitCode;

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit codes, one meaning each. A command returns one, or an error: errors are [`Exit::Failed`] but for
/// [`Usage`] and a closed stdout. An `Exit` may also be raised as an error, from deep inside, after everything
/// was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: it failed, in whole or in any part. What failed has been said on stderr.
    Failed,
    /// 2: wrong usage, found before anything was sent.
    Usage,
    /// 3: damage or a mismatch was found.
    Damage,
    /// 4: the condition asked for does not hold.
    Condition,
    /// 130: interrupted, after flushing.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Damage => 3,
            Self::Condition => 4,
            Self::Interrupted => 130,
        }
    }

    /// [`Exit::Failed`] if anything did.
    #[must_use]
    pub fn failed_if(any: bool) -> Self {
        if any { Self::Failed } else { Self::Done }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}", self.code())
    }
}

/// The user asked for something that cannot be meant: exit 2, printed in clap's style with the usage line.
/// The message names the flag and the remedy.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A [`Usage`] error as `anyhow` carries it: `return Err(usage("…"))`.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Whoever read our stdout has gone: the command ends quietly with exit 0, as `| head` expects.
#[derive(Debug, Error)]
#[error("the reader of standard output has gone")]
pub struct StdoutClosed;

impl StdoutClosed {
    /// Wraps a broken pipe of stdout, so that it is not mistaken for one of a socket.
    pub(crate) fn mark(error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::BrokenPipe {
            io::Error::new(io::ErrorKind::BrokenPipe, Self)
        } else {
            error
        }
    }

    /// Whether that is what ended the command.
    pub(crate) fn is_in(error: &anyhow::Error) -> bool {
        error.chain().any(|cause| {
            cause.is::<Self>()
                || cause
                    .downcast_ref::<io::Error>()
                    .and_then(io::Error::get_ref)
                    .is_some_and(|inner| inner.is::<Self>())
        })
    }
}

/// Runs `work` on a runtime of its own until it is done or the user interrupts (SIGINT): then it is dropped
/// where it waits, and the verdict is [`Exit::Interrupted`] (stdout is flushed by [`crate::cli::run`]).
/// `threads` is how many workers the runtime gets besides; 0 keeps everything on this thread.
///
/// # Errors
/// What `work` ended with, or that the runtime could not be made.
pub fn block_on<F>(threads: usize, work: F) -> anyhow::Result<Exit>
where
    F: Future<Output = anyhow::Result<Exit>>,
{
    let mut builder = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 0 {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            signal = interrupted() => signal.map(|()| Exit::Interrupted),
        }
    })
}

/// Resolves at the next SIGINT: for commands that end in order (drain, flush, commit) instead of being dropped.
///
/// # Errors
/// Where the handler cannot be installed.
pub async fn interrupted() -> anyhow::Result<()> {
    Ok(tokio::signal::ctrl_c().await?)
}

/// The signals that ask a process to end, and that do not end it at once any more.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Signals {
    /// Listens to SIGINT, to SIGTERM, and to the SIGHUP of a terminal that closes, which a process that `nohup` started
    /// goes on ignoring.
    ///
    /// # Errors
    /// Where a handler cannot be installed.
    pub fn all() -> io::Result<Self> {
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate: Some(signal(SignalKind::terminate())?), hangup, ..Self::interrupts()? })
    }

    /// Listens to SIGINT alone.
    ///
    /// # Errors
    /// Where the handler cannot be installed.
    pub fn interrupts() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: None, hangup: None })
    }

    /// The next one, as the exit code it asks for.
    pub async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            () = received(&mut self.terminate) => Exit::Done,
            () = received(&mut self.hangup) => Exit::Done,
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this process was started to ignore SIGHUP. Where the system does not say, what was set up stays as it is.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_none_or(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_pipe_of_stdout_is_quiet() {
        let of_socket = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(!StdoutClosed::is_in(&of_socket));
        let of_stdout = anyhow::Error::from(StdoutClosed::mark(io::ErrorKind::BrokenPipe.into()));
        assert!(StdoutClosed::is_in(&of_stdout.context("printing")));
    }
}
