//! A writer that never waits: logging must not stop the program when nobody reads what it writes.
//!
//! A thread of its own writes. What waits for it is bounded; lines beyond that are lost, counted, and told of
//! when the output moves again. (`tracing-appender` has such a writer, too, but when its queue is full at the
//! end it prints that to the very output that is stuck.)

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many bytes of lines may wait.
const MAX_WAITING: usize = 1024 * 1024;
/// How long the end of the program waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where lines are written to. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LossyWriter {
    queue: Sender<Item>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Item {
    Line(Box<[u8]>),
    /// Dropped when everything before it is written.
    Mark(#[expect(dead_code, reason = "its end is what counts")] Sender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes of lines that wait.
    waiting: AtomicUsize,
    /// Lines that were lost and not told of.
    lost: AtomicUsize,
}

/// Writes the last lines when it is dropped, but does not wait for long.
#[derive(Debug)]
#[must_use = "lines may be lost at the end without it"]
pub(super) struct Flush(Sender<Item>);

/// Starts a thread that writes to `output`. `notice` makes a line of how many lines were lost.
///
/// # Errors
/// There can't be another thread.
pub(super) fn start(
    output: impl Write + Send + 'static,
    notice: impl Fn(usize) -> String + Send + 'static,
) -> io::Result<(LossyWriter, Flush)> {
    let (queue, items) = channel();
    let counts = Arc::<Counts>::default();
    let theirs = Arc::clone(&counts);
    let thread = std::thread::Builder::new().name("log".to_owned());
    thread.spawn(move || write_all(output, &items, &theirs, notice))?;
    Ok((LossyWriter { queue: queue.clone(), counts }, Flush(queue)))
}

fn write_all(
    mut output: impl Write,
    items: &Receiver<Item>,
    counts: &Counts,
    notice: impl Fn(usize) -> String,
) {
    for item in items {
        let Item::Line(line) = item else { continue };
        // Who has closed the output wants no lines.
        let _ = output.write_all(&line);
        let waiting = counts.waiting.fetch_sub(line.len(), Ordering::AcqRel) - line.len();
        if waiting == 0 {
            let lost = counts.lost.swap(0, Ordering::AcqRel);
            if lost > 0 {
                let _ = output.write_all(notice(lost).as_bytes());
            }
            let _ = output.flush();
        }
    }
}

impl Write for LossyWriter {
    /// Takes one line, or loses it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let waiting = self.counts.waiting.fetch_add(line.len(), Ordering::AcqRel);
        if waiting + line.len() > MAX_WAITING {
            self.counts.waiting.fetch_sub(line.len(), Ordering::AcqRel);
            self.counts.lost.fetch_add(1, Ordering::AcqRel);
        } else {
            // Fails only if the thread is gone, which ends with the last writer.
            let _ = self.queue.send(Item::Line(line.into()));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LossyWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (mark, written) = channel();
        if self.0.send(Item::Mark(mark)).is_ok() {
            // An error both ways: in time, or too late.
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::{MAX_WAITING, start};

    /// An output that takes a write only when somebody reads.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Pipe, Receiver<Vec<u8>>) {
        let (sender, receiver) = sync_channel(0);
        (Pipe(sender), receiver)
    }

    #[test]
    fn lines_beyond_the_limit_are_lost_and_told_of_when_the_output_moves_again() {
        let (output, written) = pipe();
        let (mut writer, flush) = start(output, |lost| format!("{lost} lost")).unwrap();
        let line = vec![b'x'; MAX_WAITING / 4];
        for _ in 0..7 {
            writer.write_all(&line).unwrap();
        }
        for _ in 0..4 {
            assert_eq!(written.recv().unwrap().len(), line.len());
        }
        assert_eq!(written.recv().unwrap(), b"3 lost");
        writer.write_all(b"and on").unwrap();
        assert_eq!(written.recv().unwrap(), b"and on");
        drop((writer, flush));
        assert!(written.recv().is_err(), "the thread has ended");
    }

    #[test]
    fn the_end_waits_for_the_last_lines_but_not_for_ever() {
        let (output, written) = pipe();
        let (mut writer, flush) = start(output, |_| String::new()).unwrap();
        writer.write_all(b"last").unwrap();
        let reader = std::thread::spawn(move || (written.recv(), written));
        drop(flush);
        let (line, written) = reader.join().unwrap();
        assert_eq!(line.unwrap(), b"last");

        let (output, _stuck) = pipe();
        let (mut other, flush) = start(output, |_| String::new()).unwrap();
        other.write_all(b"nobody reads this").unwrap();
        drop(flush);
        drop((writer, written));
    }

    #[test]
    fn a_closed_output_stops_nobody() {
        let (output, written) = pipe();
        drop(written);
        let (mut writer, flush) = start(output, |_| String::new()).unwrap();
        for _ in 0..1000 {
            writer.write_all(b"line\n").unwrap();
        }
        drop(flush);
    }
}
