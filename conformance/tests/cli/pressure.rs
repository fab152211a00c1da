//! The programs when the system gives them too little.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use conformance::interop::Driver;

use crate::commands::{client, echo_through, field, server};
use crate::program::{LinkSocks, WAIT};

/// What a pipe takes at least before whoever writes into it has to wait: its size, less what has to be written
/// in one piece.
const PIPE: usize = 60 * 1024;

/// A program of whose output only the beginning is read.
struct Unread {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Unread {
    /// Returns the first line with `text` in it as well, behind which nothing is read.
    fn start(driver: Driver, args: &[&str], text: &str) -> (Self, String) {
        let mut command = Command::new(driver.binary().unwrap());
        command.args(args).arg("-dd").env_clear();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, stdout };
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(program.stdout.read_line(&mut line).unwrap(), 0, "no line with '{text}'");
        }
        (program, line)
    }

    /// Asks for the end, and returns how long that took and how much had not been read.
    fn end(&mut self) -> (Duration, usize) {
        let pid = self.child.id().to_string();
        let start = Instant::now();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < WAIT, "the program does not end");
            // `std` can't wait for a child with a deadline.
            std::thread::sleep(Duration::from_millis(10));
        };
        let elapsed = start.elapsed();
        assert_eq!(status.code(), Some(0));
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).unwrap();
        (elapsed, rest.len())
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn output_that_nobody_reads_stops_nothing(driver: Driver) {
    let args = ["server", "-H", "127.0.0.1", "-P", "0", "-t", "t"];
    let (mut server, line) = Unread::start(driver, &args, "LinkSocks server started");
    let url = format!("ws://{}", field(&line, "listen"));
    let args = ["client", "-p", "0", "-t", "t", "-u", &url];
    let (mut client, line) = Unread::start(driver, &args, "Local proxy server started");
    let socks: SocketAddr = field(&line, "addr").parse().unwrap();
    // Two lines or more each, of over a hundred bytes.
    for _ in 0..500 {
        echo_through(socks);
    }
    for program in [&mut client, &mut server] {
        let (elapsed, unread) = program.end();
        assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
        assert!(unread >= PIPE, "the output was not full: {unread} bytes");
    }
}

/// How many ticks of 10 ms a process has worked. See `proc_pid_stat(5)`.
fn worked(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

pub(crate) fn out_of_descriptors_a_server_waits_and_says_so_once(driver: Driver) {
    if !cfg!(target_os = "linux") {
        return;
    }
    const COMPLAINT: &str = "Cannot accept connections";
    let flags = ["server", "-H", "127.0.0.1", "-P", "0", "-t", "t"];
    let mut server = LinkSocks::start_in_shell(driver, "ulimit -n 48; exec \"$0\" \"$@\"", &flags);
    let listen = field(&server.wait_for("LinkSocks server started"), "listen");
    let crowd: Vec<_> = (0..60).map(|_| TcpStream::connect(&listen).unwrap()).collect();
    let line = server.wait_for(COMPLAINT);
    assert!(line.contains(" WRN ") && line.contains("Too many open files"), "{line}");
    let before = worked(server.id());
    // Time in which it could work.
    std::thread::sleep(Duration::from_secs(1));
    let ticks = worked(server.id()) - before;
    assert!(ticks < 20, "{ticks} of 100 ticks");
    drop(crowd);
    let (_client, socks) = client(driver, &["-t", "t", "-u", &format!("ws://{listen}")]);
    echo_through(socks);
    server.signal("TERM");
    let server = server.end();
    assert_eq!(server.stdout.matches(COMPLAINT).count(), 1, "{}", server.stdout);
}

pub(crate) fn a_crowd_from_one_address_is_told_of_once(driver: Driver) {
    const COMPLAINT: &str = "Too many connections from one address";
    let (mut server, url) = server(driver, &["-t", "t"]);
    let address = url.strip_prefix("ws://").unwrap();
    let crowd: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let line = server.wait_for(COMPLAINT);
    assert!(line.contains(" WRN ") && line.ends_with("address=127.0.0.1 limit=64"), "{line}");
    // Those that have no place are closed, and are the last ones.
    for mut refused in &crowd[64..] {
        refused.set_read_timeout(Some(WAIT)).unwrap();
        assert_eq!(refused.read(&mut [0]).unwrap(), 0);
    }
    drop(crowd);
    server.signal("TERM");
    let server = server.end();
    assert_eq!(server.stdout.matches(COMPLAINT).count(), 1, "{}", server.stdout);
}

pub(crate) fn the_limit_of_descriptors_is_raised(driver: Driver) {
    let line = "ulimit -S -n 50 && ulimit -H -n 100 && exec \"$0\" \"$@\"";
    for args in [
        &["server", "-H", "127.0.0.1", "-P", "0", "-t", "t", "-d"][..],
        &["client", "-p", "0", "-u", "ws://127.0.0.1:1", "-d"],
    ] {
        let mut program = LinkSocks::start_in_shell(driver, line, args);
        assert_eq!(field(&program.wait_for("File descriptors"), "limit"), "100");
    }
}
