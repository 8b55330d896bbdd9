//! What a process has used, read from `/proc/PID`: processor time and resident memory. This is how `bench`
//! looks at a broker from outside, whatever it is written in.

use std::fs;

use anyhow::{Context, bail};

/// What Linux counts processor time in where user space can see it (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// User and system time of all its threads, the ended ones included.
    pub cpu_ms: u64,
    /// Memory that is resident now.
    pub resident_bytes: u64,
    /// The most that ever was.
    pub resident_bytes_max: u64,
}

/// Looks at process `pid` now.
///
/// # Errors
/// Where there is no such process, or `/proc` is not what Linux has there.
pub fn sample(pid: u32) -> anyhow::Result<Sample> {
    let read = |file: &str| {
        fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("process {pid} (--pid)"))
    };
    let Some(cpu_ms) = cpu_ms(&read("stat")?) else { bail!("/proc/{pid}/stat is not what Linux writes") };
    let status = read("status")?;
    Ok(Sample {
        cpu_ms,
        resident_bytes: status_bytes(&status, "VmRSS:"),
        resident_bytes_max: status_bytes(&status, "VmHWM:"),
    })
}

/// Fields 14 and 15 of `stat`. The second field is the program's name in parentheses and may hold anything.
fn cpu_ms(stat: &str) -> Option<u64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 1_000 / TICKS_PER_SECOND)
}

/// `VmRSS:     1234 kB`; 0 where the line is missing, as it is for kernel threads.
fn status_bytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_ms(stat), Some(3_000));
        assert_eq!(status_bytes("Name:\tx\nVmRSS:\t    12 kB\n", "VmRSS:"), 12_288);
    }

    #[test]
    fn this_process_can_be_seen_and_a_missing_one_is_named() {
        assert!(sample(std::process::id()).unwrap().resident_bytes > 0);
        assert!(format!("{:#}", sample(u32::MAX).unwrap_err()).contains("--pid"));
    }
}
