//! What a run measured, and how it is printed: lines for people, one object for programs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::process::{self, Sample};
use crate::cli::output::Output;
use crate::types::{ByteSize, print_duration};

/// Latencies in nanoseconds, three digits, up to a quarter of an hour.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 900_000_000_000, 3)?)
}

/// Watches processes from the start of the measurement to its end.
#[derive(Debug)]
pub struct Watch {
    before: Vec<(u32, Sample)>,
}

impl Watch {
    /// Looks at the processes `pids`, and at this one.
    ///
    /// # Errors
    /// Where one does not exist.
    pub fn start(pids: &[u32]) -> anyhow::Result<Self> {
        let own = std::process::id();
        let before = pids
            .iter()
            .chain([&own])
            .map(|&pid| Ok((pid, process::sample(pid)?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { before })
    }

    /// What each has used since; the last is this process.
    ///
    /// # Errors
    /// Where one has gone: then the measurement means nothing.
    pub fn stop(self, bytes: u64) -> anyhow::Result<(Vec<ProcessUse>, ProcessUse)> {
        let mut uses = Vec::new();
        for (pid, before) in self.before {
            let after = process::sample(pid)?;
            let cpu_seconds = after.cpu_ms.saturating_sub(before.cpu_ms) as f64 / 1e3;
            uses.push(ProcessUse {
                pid,
                cpu_seconds,
                cpu_seconds_per_gb: (bytes > 0).then(|| round(cpu_seconds / (bytes as f64 / 1e9))),
                resident_bytes: after.resident_bytes,
                resident_bytes_max: after.resident_bytes_max,
            });
        }
        match uses.pop() {
            Some(own) => Ok((uses, own)),
            None => anyhow::bail!("nothing was watched"),
        }
    }
}

/// What one process used during the measurement.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessUse {
    pid: u32,
    cpu_seconds: f64,
    cpu_seconds_per_gb: Option<f64>,
    resident_bytes: u64,
    resident_bytes_max: u64,
}

/// Percentiles of one histogram, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latencies {
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
    mean: f64,
    count: u64,
}

impl Latencies {
    /// Reads them off; `None` where nothing was recorded.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
            mean: round(histogram.mean() / 1e3),
            count: histogram.len(),
        })
    }

    fn line(&self) -> String {
        let print = |micros: f64| print_duration(Duration::from_nanos((micros * 1e3) as u64));
        format!(
            "p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
            print(self.p50),
            print(self.p90),
            print(self.p99),
            print(self.p999),
            print(self.max)
        )
    }
}

/// Everything a run says.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `produce`, `consume` or `latency`.
    pub bench: &'static str,
    /// The topics.
    pub topics: Vec<String>,
    /// How many sockets.
    pub connections: usize,
    /// Records acknowledged, or read.
    pub records: u64,
    /// Their batches as they stand on the wire and on disk.
    pub bytes: u64,
    /// Requests answered.
    pub requests: u64,
    /// How long it took.
    pub seconds: f64,
    /// From sending a request (at a fixed rate: from when it was due) to its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Latencies>,
    /// From when a record was due to be sent to its arrival at a reader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_to_end_us: Option<Latencies>,
    /// The processes of `--pid`.
    pub processes: Vec<ProcessUse>,
    /// This process.
    pub generator: ProcessUse,
}

fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// `1234567` as `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Report {
    /// Prints it.
    ///
    /// # Errors
    /// Where stdout cannot take it.
    pub fn print(&self, json: bool, output: &mut Output) -> std::io::Result<()> {
        let rate = |count: u64| count as f64 / self.seconds.max(1e-9);
        if json {
            let mut object = serde_json::to_value(self)?;
            if let Some(object) = object.as_object_mut() {
                object.insert("records_per_second".to_owned(), round(rate(self.records)).into());
                object.insert("mb_per_second".to_owned(), round(rate(self.bytes) / 1e6).into());
                object.insert("requests_per_second".to_owned(), round(rate(self.requests)).into());
            }
            return output.json(&object);
        }
        let verb = if self.bench == "consume" { "read" } else { "sent" };
        output.line(format_args!(
            "{verb:<12}{} records in {} requests, {:.1} MB, {:.2} s",
            thousands(self.records),
            thousands(self.requests),
            self.bytes as f64 / 1e6,
            self.seconds
        ))?;
        output.line(format_args!(
            "throughput  {} records/s, {:.1} MB/s, {} requests/s",
            thousands(rate(self.records) as u64),
            rate(self.bytes) / 1e6,
            thousands(rate(self.requests) as u64)
        ))?;
        for (name, latencies) in [("latency", &self.latency_us), ("end to end", &self.end_to_end_us)] {
            if let Some(latencies) = latencies {
                output.line(format_args!("{name:<12}{}", latencies.line()))?;
            }
        }
        for process in &self.processes {
            output.line(format_args!("{:<12}{}", "broker", process.line()))?;
        }
        output.line(format_args!("{:<12}{}", "generator", self.generator.line()))
    }
}

impl ProcessUse {
    fn line(&self) -> String {
        let per_gb = self.cpu_seconds_per_gb.map(|per_gb| format!(" ({per_gb:.2} s/GB)")).unwrap_or_default();
        format!(
            "{:.2} CPU s{per_gb}, {} resident, {} at most (pid {})",
            self.cpu_seconds,
            ByteSize(self.resident_bytes),
            ByteSize(self.resident_bytes_max),
            self.pid
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn percentiles_come_in_microseconds() {
        let mut histogram = histogram().unwrap();
        assert!(Latencies::of(&histogram).is_none());
        for micros in 1..=1_000 {
            histogram.record(micros * 1_000).unwrap();
        }
        let latencies = Latencies::of(&histogram).unwrap();
        assert!((latencies.p50 - 500.0).abs() < 2.0, "{latencies:?}");
        assert!((latencies.p99 - 990.0).abs() < 2.0, "{latencies:?}");
    }
}
