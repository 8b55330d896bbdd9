//! Random values from a seed that every failing test prints: `KLAMM_SEED=… cargo test` repeats it.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64: small, fast, and the same everywhere.
pub struct Random {
    state: u64,
    pub seed: u64,
}

impl Random {
    /// From `KLAMM_SEED`, else from the clock.
    pub fn new() -> Self {
        let seed = match std::env::var("KLAMM_SEED") {
            Ok(text) => text.parse().expect("KLAMM_SEED is a number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64),
        };
        eprintln!("KLAMM_SEED={seed}");
        Self { state: seed, seed }
    }

    /// From a seed that the caller prints when it fails.
    pub fn from_seed(seed: u64) -> Self {
        Self { state: seed, seed }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `of` times.
    pub fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}
