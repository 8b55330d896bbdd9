//! A log file seen through a buffer that slides forward: every byte comes by pread, once, but for what is asked
//! for again after a fault.

use std::io;
use std::sync::Arc;

use crate::storage::disk::DiskFile;

/// Small enough to stay in a core's cache between the copy, the checksum and the walk.
const WINDOW_SIZE: usize = 256 << 10;
/// A batch that is larger is believed only after its checksum was taken piece by piece.
pub(super) const TRUSTED_SIZE_MAX: usize = 8 << 20;

/// The buffer, kept by its thread from file to file.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

/// See the module. Bytes at or behind `end` do not exist for it.
pub(super) struct Window<'a> {
    file: Arc<dyn DiskFile>,
    buffer: &'a mut Vec<u8>,
    /// Position in the file of the first byte held, and how many are.
    at: u64,
    filled: usize,
    end: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: Arc<dyn DiskFile>, buffer: &'a mut Buffer, end: u64) -> Self {
        let buffer = &mut buffer.0;
        if buffer.len() > TRUSTED_SIZE_MAX {
            *buffer = Vec::new();
        }
        buffer.resize(buffer.len().max(WINDOW_SIZE), 0);
        Self { file, buffer, at: 0, filled: 0, end }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// How long the file is now: more than at first where a broker writes to it.
    pub(super) fn file_len(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// The CRC-32C of `size` bytes at `position`, taken piece by piece; `None` where the file is shorter.
    pub(super) fn crc(&mut self, position: u64, size: u64) -> io::Result<Option<u32>> {
        let (mut crc, mut at) = (0, position);
        while at < position + size {
            let piece = self.bytes(at, (position + size - at).min(WINDOW_SIZE as u64) as usize)?;
            if piece.is_empty() {
                return Ok(None);
            }
            crc = crc32c::crc32c_append(crc, piece);
            at += piece.len() as u64;
        }
        Ok(Some(crc))
    }

    /// `size` bytes at `position`; fewer only where the file ends, or was cut meanwhile.
    pub(super) fn bytes(&mut self, position: u64, size: usize) -> io::Result<&[u8]> {
        let left = self.end.saturating_sub(position);
        if left == 0 {
            return Ok(&[]);
        }
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(size);
        let is_held = position >= self.at && position - self.at + size as u64 <= self.filled as u64;
        if !is_held {
            self.fill(position, size)?;
        }
        let from = (position - self.at) as usize;
        Ok(&self.buffer[from..(from + size).min(self.filled)])
    }

    /// What is held from `position` on: at least one byte where there is one.
    pub(super) fn held_from(&mut self, position: u64) -> io::Result<&[u8]> {
        if self.bytes(position, 1)?.is_empty() {
            return Ok(&[]);
        }
        Ok(&self.buffer[(position - self.at) as usize..self.filled])
    }

    fn fill(&mut self, position: u64, size: usize) -> io::Result<()> {
        let wanted = size.max(WINDOW_SIZE).min(usize::try_from(self.end - position).unwrap_or(usize::MAX));
        let is_inside = (self.at..self.at + self.filled as u64).contains(&position);
        let kept = if is_inside {
            let from = (position - self.at) as usize;
            self.buffer.copy_within(from..self.filled, 0);
            self.filled - from
        } else {
            0
        };
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        (self.at, self.filled) = (position, kept);
        if kept < wanted {
            self.filled += self.file.read_at(&mut self.buffer[kept..wanted], position + kept as u64)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::{Access, Disk, RealDisk};

    #[test]
    fn bytes_come_once_and_in_any_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let content: Vec<u8> = (0..WINDOW_SIZE * 3 + 17).map(|at| (at * 7 + at / 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let disk = RealDisk::new();
        let file = disk.open(&path, Access::Read).unwrap();
        let mut buffer = Buffer::default();
        let mut window = Window::new(file, &mut buffer, content.len() as u64);
        let mut at = 0;
        for size in [1, 61, WINDOW_SIZE - 5, 100, WINDOW_SIZE + 4_000, 9].into_iter().cycle() {
            let found = window.bytes(at as u64, size).unwrap();
            assert_eq!(found, &content[at..(at + size).min(content.len())], "{at} {size}");
            if found.len() < size {
                break;
            }
            at += size;
        }
        let read = disk
            .stats()
            .of(crate::storage::FileKind::Log)
            .bytes_read
            .load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(read, content.len() as u64);
        assert!(window.bytes(content.len() as u64 + 5, 3).unwrap().is_empty());
        assert_eq!(window.bytes(0, 4).unwrap(), &content[..4]);
    }
}
