//! A bell that a thread in `poll` hears: a delivery came, or an interrupt.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Rings once however often it is pulled, until it is silenced.
pub(super) struct Bell {
    read: PipeReader,
    write: PipeWriter,
    /// Whether the one byte is in the pipe, so that it can never be full.
    is_ringing: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let (read, write) = io::pipe()?;
        Ok(Self { read, write, is_ringing: AtomicBool::new(false) })
    }

    pub(super) fn ring(&self) {
        if !self.is_ringing.swap(true, Ordering::SeqCst) {
            // Both ends are ours: the write cannot fail.
            let _ = (&self.write).write_all(&[0]);
        }
    }

    /// After [`Bell::as_fd`] became readable: whoever rings from now on is heard again.
    pub(super) fn silence(&self) -> io::Result<()> {
        (&self.read).read_exact(&mut [0])?;
        self.is_ringing.store(false, Ordering::SeqCst);
        Ok(())
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
