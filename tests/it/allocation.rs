//! A global allocator that counts per thread, so that a test can say how much memory a call took at most while
//! other tests run beside it.
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn note(change: isize) {
    // A thread that is ending has no counters any more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may live side by side while bytes are moved.
        note(size as isize);
        note(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What the call returned, and how many bytes more than before it this thread held at most meanwhile.
pub fn peak_of<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let value = call();
    (value, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

/// What the call returned, and how many bytes more than before it this thread holds now.
pub fn kept_by<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    let value = call();
    (value, usize::try_from(LIVE.get() - before).unwrap_or(0))
}

#[test]
fn the_peak_counts_what_was_freed_meanwhile() {
    let (length, peak) = peak_of(|| vec![0u8; 100_000].len());
    assert_eq!(length, 100_000);
    assert!((100_000..101_000).contains(&peak), "{peak}");
}
