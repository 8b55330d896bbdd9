//! How klamm prints: data to stdout through one buffer, talk to stderr, colours and progress bars only where
//! a terminal wants them. A reader that closes our stdout ends the command quietly ([`StdoutClosed`]).

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt as _;

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec};
use serde::Serialize;

use crate::cli::exit::StdoutClosed;

const BUFFER_BYTES: usize = 64 << 10;

/// Where data goes.
enum Sink {
    /// Our own descriptor of stdout: `std::io::stdout` would look for the last newline in every write.
    Stdout(BufWriter<File>),
    /// Stdout was closed before we started: as with `>&-`, writing is an error.
    Missing,
    /// Nobody reads what is said either.
    Nowhere,
    #[cfg(test)]
    Memory(Vec<u8>),
}

/// The one door to stdout and stderr. As [`io::Write`] it takes data; [`Output::line`], [`Output::json`] and
/// [`Output::table`] are shorthands; [`Output::say`], [`Output::warn`] and [`Output::error`] talk.
pub struct Output {
    sink: Sink,
    is_terminal: bool,
    is_pipe: bool,
    /// Bytes of data so far, whether flushed or not.
    accepted_bytes: u64,
}

/// What became of the data that stdout has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// So many bytes were read, since we began, as far as that can be known: all, where stdout is no pipe.
    pub taken_bytes: u64,
    /// Whether nobody will read the rest.
    pub is_gone: bool,
}

impl Output {
    /// Stdout and stderr of this process.
    #[must_use]
    pub fn new() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let sink = match stdout.as_fd().try_clone_to_owned() {
            Ok(descriptor) => Sink::Stdout(BufWriter::with_capacity(BUFFER_BYTES, File::from(descriptor))),
            Err(_) => Sink::Missing,
        };
        let is_pipe = match &sink {
            Sink::Stdout(stdout) => {
                stdout.get_ref().metadata().is_ok_and(|metadata| metadata.file_type().is_fifo())
            }
            _ => false,
        };
        Self { sink, is_terminal, is_pipe, accepted_bytes: 0 }
    }

    /// Takes everything and shows nothing of it.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { sink: Sink::Nowhere, is_terminal: false, is_pipe: false, accepted_bytes: 0 }
    }

    /// Bytes of data so far. After [`Output::flush_all`] stdout has them.
    #[must_use]
    pub fn accepted_bytes(&self) -> u64 {
        self.accepted_bytes
    }

    /// Whether stdout is a pipe: then its reader may leave without taking what is in it.
    #[must_use]
    pub fn is_pipe(&self) -> bool {
        self.is_pipe
    }

    /// How far the reader of stdout is.
    #[must_use]
    pub fn reader(&self) -> Reader {
        let all = Reader { taken_bytes: self.accepted_bytes, is_gone: false };
        let Sink::Stdout(stdout) = &self.sink else { return all };
        if !self.is_pipe {
            return all;
        }
        // Before the other question: what is unread once nobody reads stays unread.
        let mut watched = [PollFd::new(stdout.get_ref(), PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_gone = rustix::event::poll(&mut watched, Some(&now)).is_ok_and(|ready| ready > 0)
            && watched[0].revents().contains(PollFlags::ERR);
        let unread = rustix::io::ioctl_fionread(stdout.get_ref()).unwrap_or(0);
        let unwritten = stdout.buffer().len() as u64;
        Reader { taken_bytes: self.accepted_bytes.saturating_sub(unread + unwritten), is_gone }
    }

    /// Whether a person is likely to read stdout: then what follows live input should be flushed line by line.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// A line of data.
    ///
    /// # Errors
    /// Where stdout cannot take it.
    pub fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self, "{line}")
    }

    /// One JSON object, one line.
    ///
    /// # Errors
    /// Where stdout cannot take it.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self, value).map_err(io::Error::from)?;
        self.write_all(b"\n")
    }

    /// A table, or nothing where it has no rows.
    ///
    /// # Errors
    /// Where stdout cannot take it.
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        if table.rows == 0 { Ok(()) } else { self.write_all(table.render().as_bytes()) }
    }

    /// Pushes out what is buffered: before a wait, and wherever the reader must not be behind.
    ///
    /// # Errors
    /// Where stdout cannot take it.
    pub fn flush_all(&mut self) -> io::Result<()> {
        self.flush()
    }

    /// Says something that is neither data nor a complaint, on stderr.
    pub fn say(&mut self, message: impl fmt::Display) {
        self.talk("", Style::new(), &message);
    }

    /// Something is odd but the work goes on.
    pub fn warn(&mut self, message: impl fmt::Display) {
        self.talk("warning: ", AnsiColor::Yellow.on_default().bold(), &message);
    }

    /// Something failed; the exit code will say so as well.
    pub fn error(&mut self, message: impl fmt::Display) {
        self.talk("error: ", AnsiColor::Red.on_default().bold(), &message);
    }

    /// A progress bar over `total` steps on stderr; draws nothing where stderr is no terminal.
    #[must_use]
    pub fn progress(&self, total: u64, what: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        let template = "{msg} {wide_bar} {pos}/{len} {eta}";
        bar.with_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        )
        .with_message(what.to_owned())
    }

    /// The same, counting bytes.
    #[must_use]
    pub fn progress_bytes(&self, total: u64, what: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        bar.with_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        )
        .with_message(what.to_owned())
    }

    /// Several bars below each other on stderr; nothing is drawn where stderr is no terminal.
    #[must_use]
    pub fn progress_lines(&self) -> MultiProgress {
        MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))
    }

    /// A bar for [`Output::progress_lines`], which draws it.
    #[must_use]
    pub fn bar_of(template: &str, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::hidden().with_style(style).with_message(what.to_owned())
    }

    /// A table that is talk: it goes to stderr.
    pub fn say_table(&mut self, table: &Table) {
        if table.rows > 0 {
            self.say(table.render().trim_end());
        }
    }

    /// Data first, so that both streams read in order where they are the same terminal.
    fn talk(&mut self, prefix: &str, style: Style, message: &dyn fmt::Display) {
        let _ = self.flush();
        if matches!(self.sink, Sink::Nowhere) {
            return;
        }
        // anstream strips the style where stderr is no terminal or NO_COLOR is set. Talk that cannot be
        // written is lost: there is no third stream to complain on.
        let _ = writeln!(anstream::stderr(), "{style}{prefix}{style:#}{message}");
    }

    /// Collects data in memory instead.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self { sink: Sink::Memory(Vec::new()), is_terminal: false, is_pipe: false, accepted_bytes: 0 }
    }

    /// What was collected so far, as text.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        match &self.sink {
            Sink::Memory(bytes) => std::str::from_utf8(bytes).expect("data is UTF-8 in tests"),
            _ => panic!("not made by for_test"),
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let accepted = match &mut self.sink {
            Sink::Stdout(stdout) => stdout.write(bytes).map_err(StdoutClosed::mark),
            Sink::Missing => Err(io::Error::other("standard output is closed")),
            Sink::Nowhere => Ok(bytes.len()),
            #[cfg(test)]
            Sink::Memory(memory) => memory.write(bytes),
        }?;
        self.accepted_bytes += accepted as u64;
        Ok(accepted)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Stdout(stdout) => stdout.flush().map_err(StdoutClosed::mark),
            Sink::Missing | Sink::Nowhere => Ok(()),
            #[cfg(test)]
            Sink::Memory(_) => Ok(()),
        }
    }
}

/// Columns for people: headed, padded with spaces, numbers to the right, no lines drawn, never wrapped, so
/// that `grep` and `awk` work on it. Programs ask for `--json`.
#[derive(Debug)]
pub struct Table {
    inner: comfy_table::Table,
    rows: usize,
}

impl Table {
    /// A table with these headings; one that begins with `>` stands over numbers and is aligned right.
    #[must_use]
    pub fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(comfy_table::presets::NOTHING);
        inner.force_no_tty();
        inner.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
        let headings: Vec<&str> = headings.into_iter().collect();
        inner.set_header(headings.iter().map(|h| h.trim_start_matches('>')));
        for (index, heading) in headings.iter().enumerate() {
            if let Some(column) = inner.column_mut(index) {
                column.set_padding((0, 2));
                if heading.starts_with('>') {
                    column.set_cell_alignment(comfy_table::CellAlignment::Right);
                }
            }
        }
        Self { inner, rows: 0 }
    }

    /// Adds a row; an empty cell prints as `-`.
    pub fn row<T: fmt::Display>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells.into_iter().map(|cell| {
            let text = cell.to_string();
            if text.is_empty() { "-".to_owned() } else { text }
        });
        self.inner.add_row(cells);
        self.rows += 1;
    }

    fn render(&self) -> String {
        self.inner.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_columns() {
        let mut output = Output::for_test();
        let mut table = Table::new(["TOPIC", ">PARTITIONS", "NOTE"]);
        table.row(["orders", "6", ""]);
        table.row(["a", "12", "x"]);
        output.table(&table).unwrap();
        assert_eq!(output.text(), "TOPIC   PARTITIONS  NOTE\norders           6  -\na               12  x\n");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let mut output = Output::for_test();
        output.json(&serde_json::json!({"topic": "a\nb"})).unwrap();
        assert_eq!(output.text(), "{\"topic\":\"a\\nb\"}\n");
    }
}
