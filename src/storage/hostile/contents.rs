//! What is in one file: what readers see, what the disk holds for sure, and in between every version of every
//! sector that a power cut may leave behind.
//!
//! ```text
//! live:     what a read gives (the page cache)
//! unsynced: sector -> its versions since the last sync, oldest first; lengths likewise
//! durable:  what a power cut leaves at least
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Survival;
use super::random::Random;

/// The unit that a disk writes whole.
pub(super) const SECTOR: usize = 512;
/// A page of the page cache, in sectors.
const PAGE_SECTORS: u64 = 8;

type Sector = Arc<[u8; SECTOR]>;

/// Bytes with holes, which read as zeros.
#[derive(Debug, Clone, Default)]
struct Image {
    len: u64,
    sectors: BTreeMap<u64, Sector>,
}

impl Image {
    fn sector(&self, index: u64) -> [u8; SECTOR] {
        self.sectors.get(&index).map_or([0; SECTOR], |sector| **sector)
    }

    fn put(&mut self, index: u64, bytes: [u8; SECTOR]) {
        if bytes == [0; SECTOR] {
            self.sectors.remove(&index);
        } else {
            self.sectors.insert(index, Arc::new(bytes));
        }
    }

    fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let available = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let len = buffer.len().min(available);
        for piece in pieces(position, len) {
            let from = &self.sector(piece.sector)[piece.within.clone()];
            buffer[piece.at..piece.at + from.len()].copy_from_slice(from);
        }
        len
    }

    /// Cuts off what lies behind `len`, so that a file that grows again reads zeros there.
    fn cut(&mut self, len: u64) {
        self.len = len;
        self.sectors.split_off(&len.div_ceil(SECTOR as u64));
        let rest = (len % SECTOR as u64) as usize;
        if rest > 0 && self.sectors.contains_key(&(len / SECTOR as u64)) {
            let mut bytes = self.sector(len / SECTOR as u64);
            bytes[rest..].fill(0);
            self.put(len / SECTOR as u64, bytes);
        }
    }
}

/// The part of a range that lies in one sector.
struct Piece {
    sector: u64,
    within: std::ops::Range<usize>,
    at: usize,
}

fn pieces(position: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= len {
            return None;
        }
        let here = position + at as u64;
        let start = (here % SECTOR as u64) as usize;
        let size = (SECTOR - start).min(len - at);
        let piece = Piece { sector: here / SECTOR as u64, within: start..start + size, at };
        at += size;
        Some(piece)
    })
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    live: Image,
    durable: Image,
    unsynced: BTreeMap<u64, Vec<[u8; SECTOR]>>,
    unsynced_lens: Vec<u64>,
    /// Where the newest write began and ended, while nothing was synced since.
    last_write: Option<(u64, u64)>,
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.live.len
    }

    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        self.live.read(buffer, position)
    }

    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        for piece in pieces(position, bytes.len()) {
            let mut sector = self.live.sector(piece.sector);
            let size = piece.within.len();
            sector[piece.within].copy_from_slice(&bytes[piece.at..piece.at + size]);
            self.live.put(piece.sector, sector);
            self.unsynced.entry(piece.sector).or_default().push(sector);
        }
        let end = position + bytes.len() as u64;
        if end > self.live.len {
            self.live.len = end;
            self.unsynced_lens.push(end);
        }
        self.last_write = Some((position, end));
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len == self.live.len {
            return;
        }
        if len < self.live.len {
            let first = len / SECTOR as u64;
            let gone: Vec<u64> = self.live.sectors.range(first..).map(|(index, _)| *index).collect();
            self.live.cut(len);
            for index in gone {
                self.unsynced.entry(index).or_default().push(self.live.sector(index));
            }
        }
        self.live.len = len;
        self.unsynced_lens.push(len);
        self.last_write = None;
    }

    pub(super) fn sync(&mut self) {
        for index in self.unsynced.keys() {
            self.durable.put(*index, self.live.sector(*index));
        }
        self.durable.len = self.live.len;
        self.forget_unsynced();
    }

    /// What a failed sync does: the pages count as written, and are not.
    pub(super) fn forget_unsynced(&mut self) {
        self.unsynced.clear();
        self.unsynced_lens.clear();
        self.last_write = None;
    }

    /// Turns one bit over, on the disk and in memory.
    pub(super) fn flip(&mut self, bit: u64) {
        let (index, within) = (bit / 8 / SECTOR as u64, (bit / 8 % SECTOR as u64) as usize);
        for image in [&mut self.live, &mut self.durable] {
            let mut sector = image.sector(index);
            sector[within] ^= 1 << (bit % 8);
            image.put(index, sector);
        }
    }

    /// The file after a power cut.
    pub(super) fn survive(&self, survival: Survival, random: &mut Random) -> Self {
        let image = match survival {
            Survival::Nothing => self.durable.clone(),
            Survival::Names => Image { len: self.live.len, ..self.cut_durable() },
            Survival::Everything | Survival::Contents => self.live.clone(),
            Survival::Torn(_) => self.torn(random),
            Survival::Seeded(_) => self.drawn(random),
        };
        Self { live: image.clone(), durable: image, ..Self::default() }
    }

    /// What was synced, without what lies behind the length as it is now.
    fn cut_durable(&self) -> Image {
        let mut image = self.durable.clone();
        if self.live.len < image.len {
            image.cut(self.live.len);
        }
        image
    }

    /// All of it, but for the end of the newest write.
    fn torn(&self, random: &mut Random) -> Image {
        let mut image = self.live.clone();
        let Some((start, end)) = self.last_write.filter(|(start, end)| start < end) else { return image };
        let kept_to = start + random.below(end - start);
        for piece in pieces(kept_to, (end - kept_to) as usize) {
            let before = self.version_before(piece.sector);
            let mut sector = image.sector(piece.sector);
            sector[piece.within.clone()].copy_from_slice(&before[piece.within]);
            image.put(piece.sector, sector);
        }
        // The new length may have reached the disk before the bytes.
        if random.one_in(2) && self.durable.len <= kept_to {
            image.cut(kept_to);
        }
        image
    }

    fn version_before(&self, index: u64) -> [u8; SECTOR] {
        let versions = self.unsynced.get(&index).map_or(&[][..], Vec::as_slice);
        match versions.len().checked_sub(2) {
            Some(before) => versions[before],
            None => self.durable.sector(index),
        }
    }

    /// Any version of each sector, and any length that the file has had since the last sync.
    fn drawn(&self, random: &mut Random) -> Image {
        let mut image = self.durable.clone();
        let by_page = random.one_in(2);
        let mut fate = (u64::MAX, random.next());
        for (index, versions) in &self.unsynced {
            let unit = if by_page { index / PAGE_SECTORS } else { *index };
            if fate.0 != unit {
                fate = (unit, random.next());
            }
            match fate.1 % 4 {
                0 => {}
                1 | 2 => image.put(*index, *versions.last().unwrap_or(&[0; SECTOR])),
                _ => image.put(*index, versions[(fate.1 / 4 % versions.len() as u64) as usize]),
            }
        }
        let lens = self.unsynced_lens.len() as u64;
        if let Some(drawn) = random.below(lens + 2).checked_sub(1) {
            image.len = self.unsynced_lens.get(drawn as usize).copied().unwrap_or(self.live.len);
        }
        image.cut(image.len);
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(contents: &Contents) -> Vec<u8> {
        let mut buffer = vec![0; contents.len() as usize];
        assert_eq!(contents.read(&mut buffer, 0), buffer.len());
        buffer
    }

    #[test]
    fn a_sync_keeps_what_was_written_and_a_cut_what_was_synced() {
        let mut random = Random::new(1);
        let mut contents = Contents::default();
        contents.write(&[1; 700], 100);
        contents.sync();
        contents.write(&[2; 700], 400);
        contents.set_len(3_000);
        let kept = contents.survive(Survival::Nothing, &mut random);
        assert_eq!(bytes(&kept), [vec![0; 100], vec![1; 700]].concat());
        let all = contents.survive(Survival::Everything, &mut random);
        assert_eq!(bytes(&all), [vec![0; 100], vec![1; 300], vec![2; 700], vec![0; 1_900]].concat());
        let names = contents.survive(Survival::Names, &mut random);
        assert_eq!(bytes(&names), [vec![0; 100], vec![1; 700], vec![0; 2_200]].concat());
    }

    #[test]
    fn a_drawn_file_is_made_of_versions_that_were_there() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut contents = Contents::default();
            contents.write(&[1; 2_048], 0);
            contents.sync();
            contents.write(&[2; 1_024], 512);
            contents.write(&[3; 1_024], 1_024);
            let drawn = contents.survive(Survival::Seeded(seed), &mut random);
            let sectors: Vec<u8> = bytes(&drawn).chunks(512).map(|sector| sector[0]).collect();
            assert_eq!((sectors[0], sectors.len()), (1, 4));
            assert!([1, 2].contains(&sectors[1]) && [1, 3].contains(&sectors[3]), "{sectors:?}");
        }
    }

    #[test]
    fn a_torn_write_keeps_its_front() {
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut contents = Contents::default();
            contents.write(&[1; 300], 0);
            contents.write(&[2; 1_000], 300);
            let torn = bytes(&contents.survive(Survival::Torn(seed), &mut random));
            let front = torn.iter().skip(300).take_while(|byte| **byte == 2).count();
            assert!(torn[..300] == [1; 300] && front < 1_000);
            assert!(torn[300 + front..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn what_a_failed_sync_dropped_is_read_and_gone_after_the_cut() {
        let mut random = Random::new(1);
        let mut contents = Contents::default();
        contents.write(b"lost", 0);
        contents.forget_unsynced();
        contents.sync();
        assert_eq!(bytes(&contents), b"lost");
        assert_eq!(bytes(&contents.survive(Survival::Nothing, &mut random)), [0; 4]);
    }
}
