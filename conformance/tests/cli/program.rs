//! A binary as a child process that ends with the test.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use conformance::interop::Driver;

/// The longest time that anything in these tests may take.
pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// A running program of ours.
pub(crate) struct LinkSocks {
    child: Child,
    lines: Receiver<String>,
    stdout: String,
    stderr: Option<JoinHandle<String>>,
}

/// What a program left behind.
pub(crate) struct Ended {
    /// The exit status; `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl LinkSocks {
    /// Starts the program with no environment but `variables`.
    pub(crate) fn start(driver: Driver, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(driver.binary().unwrap());
        command.args(args).env_clear().envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// Starts the program by way of a line for the shell, in which `"$0" "$@"` stand for it.
    pub(crate) fn start_in_shell(driver: Driver, line: &str, args: &[&str]) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).arg(driver.binary().unwrap()).args(args).env_clear();
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        Self { child, lines, stdout: String::new(), stderr: Some(stderr) }
    }

    /// Waits for a line with `text` in it, unless there has been one.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        if let Some(line) = self.stdout.lines().find(|line| line.contains(text)) {
            return line.to_owned();
        }
        self.next_with(text)
    }

    /// Waits for another line with `text` in it.
    pub(crate) fn next_with(&mut self, text: &str) -> String {
        let deadline = Instant::now() + WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with '{text}' in:\n{}", self.stdout);
            };
            self.stdout.push_str(&line);
            self.stdout.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the end of the program.
    pub(crate) fn end(mut self) -> Ended {
        let deadline = Instant::now() + WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.stdout.push_str(&line);
                    self.stdout.push('\n');
                }
                Err(error) => {
                    // Disconnected: the program has closed its standard output.
                    assert!(left > Duration::ZERO, "still running ({error}):\n{}", self.stdout);
                    break;
                }
            }
        }
        let status = self.child.wait().unwrap().code();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        Ended { status, stdout: std::mem::take(&mut self.stdout), stderr }
    }
}

impl Drop for LinkSocks {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
