//! Input in large blocks, without giving up short waits: a pause of the input is seen, so that what came
//! before it can be sent.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::bell::Bell;

/// A block: as large as is read at once.
const BLOCK_BYTES: usize = 256 << 10;

/// One input.
pub(super) struct Source {
    /// How it is called in messages.
    pub(super) name: String,
    file: File,
    /// Whether a person types.
    pub(super) is_terminal: bool,
    /// How large it is, where that is known.
    pub(super) size: Option<u64>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    is_at_end: bool,
}

impl Source {
    /// Opens a file, or standard input for `-`.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let is_stdin = path == Path::new("-");
        let name = if is_stdin { "stdin".to_owned() } else { path.display().to_string() };
        let file = if is_stdin {
            File::from(io::stdin().as_fd().try_clone_to_owned().context("stdin")?)
        } else {
            File::open(path).with_context(|| name.clone())?
        };
        let metadata = file.metadata().with_context(|| name.clone())?;
        anyhow::ensure!(!metadata.is_dir(), "{name} is a directory; name the files in it");
        Ok(Self {
            is_terminal: file.is_terminal(),
            size: metadata.is_file().then_some(metadata.len()),
            name,
            file,
            buffer: vec![0; BLOCK_BYTES],
            start: 0,
            end: 0,
            is_at_end: false,
        })
    }

    /// What was read and not consumed, and whether nothing follows it.
    pub(super) fn bytes(&self) -> (&[u8], bool) {
        (&self.buffer[self.start..self.end], self.is_at_end)
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// Waits until a read would not wait, the bell rings, or `patience` (if any) is over. A regular file is
    /// always ready.
    pub(super) fn wait(&self, bell: &Bell, patience: Option<Duration>) -> io::Result<Wake> {
        let timeout = patience.map_or(PollTimeout::NONE, |patience| {
            PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)
        });
        let events = PollFlags::POLLIN;
        let mut asked = [PollFd::new(self.file.as_fd(), events), PollFd::new(bell.as_fd(), events)];
        match poll(&mut asked, timeout) {
            // The signal that interrupted rings the bell next.
            Ok(0) | Err(Errno::EINTR) => Ok(Wake::Nothing),
            Ok(_) if asked[0].any() == Some(true) => Ok(Wake::Input),
            Ok(_) => {
                bell.silence()?;
                Ok(Wake::Bell)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads more behind what is there, up to `limit` bytes in all; false where the limit is reached.
    pub(super) fn fill(&mut self, limit: usize) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            if self.end >= limit {
                return Ok(false);
            }
            let larger = (self.buffer.len() * 2).min(limit.max(BLOCK_BYTES));
            self.buffer.resize(larger, 0);
        }
        let count = loop {
            match self.file.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Some terminals and sockets are not blocking though nobody here asked for it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                outcome => break outcome?,
            }
        };
        self.end += count;
        self.is_at_end = count == 0;
        Ok(true)
    }
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// The input has more, or its end.
    Input,
    /// Somebody rang.
    Bell,
    /// The time is up.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_read_to_its_end_in_blocks_that_grow_up_to_the_limit() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![7; 3 * BLOCK_BYTES]).unwrap();
        let mut source = Source::open(file.path()).unwrap();
        let bell = Bell::new().unwrap();
        assert_eq!(source.wait(&bell, Some(Duration::ZERO)).unwrap(), Wake::Input);
        assert_eq!((source.is_terminal, source.size), (false, Some(3 * BLOCK_BYTES as u64)));
        while source.fill(2 * BLOCK_BYTES).unwrap() {}
        assert_eq!(source.bytes(), (&vec![7; 2 * BLOCK_BYTES][..], false));
        source.consume(2 * BLOCK_BYTES - 1);
        while !source.bytes().1 {
            assert!(source.fill(2 * BLOCK_BYTES).unwrap());
        }
        assert_eq!(source.bytes().0.len(), BLOCK_BYTES + 1);
    }

    #[test]
    fn a_pause_of_a_pipe_is_seen_and_its_end_and_the_bell_waited_for() {
        let (read, mut write) = io::pipe().unwrap();
        let mut source = Source::open(Path::new("/dev/null")).unwrap();
        source.file = File::from(std::os::fd::OwnedFd::from(read));
        let bell = Bell::new().unwrap();
        assert_eq!(source.wait(&bell, Some(Duration::ZERO)).unwrap(), Wake::Nothing);
        bell.ring();
        bell.ring();
        assert_eq!(source.wait(&bell, None).unwrap(), Wake::Bell);
        assert_eq!(source.wait(&bell, Some(Duration::ZERO)).unwrap(), Wake::Nothing);
        write.write_all(b"line\n").unwrap();
        assert_eq!(source.wait(&bell, None).unwrap(), Wake::Input);
        assert!(source.fill(1 << 20).unwrap());
        assert_eq!(source.bytes(), (&b"line\n"[..], false));
        drop(write);
        assert_eq!(source.wait(&bell, None).unwrap(), Wake::Input);
        assert!(source.fill(1 << 20).unwrap());
        assert_eq!(source.bytes(), (&b"line\n"[..], true));
    }
}
