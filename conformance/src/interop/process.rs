//! A child process whose output is captured line by line, and which never outlives its handle.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Error;

/// Captured lines kept per process; older ones are dropped.
const KEPT_LINES: usize = 2000;
/// Lines shown in a failure message.
const SHOWN_LINES: usize = 40;
/// How often an exit is looked for: `std` can't wait for a child with a deadline.
const EXIT_POLL: Duration = Duration::from_millis(10);

/// A running child; killed and reaped when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// The lines of stdout and stderr, in order of arrival.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<OutputState>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct OutputState {
    lines: VecDeque<String>,
    /// Streams at their end, out of two: nothing more can come.
    ended: u8,
}

impl Process {
    /// Starts `command` without input, capturing stdout and stderr together. `name` is for messages.
    ///
    /// # Errors
    /// Those of [`Command::spawn`].
    pub fn spawn(name: impl Into<String>, mut command: Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = Arc::new(Output::default());
        if let Some(stdout) = child.stdout.take() {
            capture(stdout, Arc::clone(&output));
        }
        if let Some(stderr) = child.stderr.take() {
            capture(stderr, Arc::clone(&output));
        }
        Ok(Self { name: name.into(), child, output })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `count` captured lines contain `text`, counted from the start of the process.
    ///
    /// # Errors
    /// [`Error::Process`] with the captured output when the process ends or `timeout` passes first.
    pub fn wait_for_lines(&self, text: &str, count: usize, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let mut state = self.output.lock();
        loop {
            if state.lines.iter().filter(|line| line.contains(text)).count() >= count {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended == 2 || left.is_zero() {
                drop(state);
                return Err(self.failure(&format!("no line {text:?} (x{count}) within {timeout:?}")));
            }
            state = self.output.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// [`Error::Process`] with the captured output when it still runs after `timeout`.
    pub fn wait_for_exit(&mut self, timeout: Duration) -> Result<ExitStatus, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("still running after {timeout:?}")));
            }
            thread::sleep(EXIT_POLL);
        }
    }

    /// Whether the process has ended.
    ///
    /// # Errors
    /// Those of [`Child::try_wait`].
    pub fn has_exited(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Ends the process at once, without a chance to say goodbye.
    ///
    /// # Errors
    /// Those of [`Child::kill`] and [`Child::wait`].
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Stops the process where it is, with its sockets open, until it is killed or [thawed](Self::thaw).
    ///
    /// # Errors
    /// Those of running `kill`.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// Those of running `kill`.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    /// `std` sends no signal but the one of [`Self::kill`].
    fn signal(&self, name: &str) -> io::Result<()> {
        let status = Command::new("kill").args([name, &self.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill {name}: {status}"))) }
    }

    /// The last captured lines, under a heading, for failure messages.
    #[must_use]
    pub fn transcript(&self) -> String {
        let state = self.output.lock();
        let skipped = state.lines.len().saturating_sub(SHOWN_LINES);
        let mut text = format!("--- output of {}\n", self.name);
        for line in state.lines.iter().skip(skipped) {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// All kept lines that contain `text`.
    #[must_use]
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        self.output.lock().lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// An error about this process that carries its output.
    #[must_use]
    pub fn failure(&self, problem: &str) -> Error {
        Error::Process { program: self.name.clone(), problem: problem.to_owned(), output: self.transcript() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when the process has already been reaped, which is what we want.
        let _ = self.kill();
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `stream` to its end on a thread of its own, so that the child never blocks on a full pipe.
fn capture(stream: impl Read + Send + 'static, output: Arc<Output>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let mut state = output.lock();
            if state.lines.len() == KEPT_LINES {
                state.lines.pop_front();
            }
            state.lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
            output.grown.notify_all();
            line.clear();
        }
        output.lock().ended += 1;
        output.grown.notify_all();
    });
}
