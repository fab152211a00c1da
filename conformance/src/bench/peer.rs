//! Who is measured: our programs, the published ones, any commands, or no tunnel at all.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use crate::interop::target::{self, Target, read_bytes};
use crate::interop::{Process, Program, free_port, procfs, socks};

use super::Error;

const TOKEN: &str = "bench-token";
/// How long a peer may take until a connection through it works.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const START_POLL: Duration = Duration::from_millis(20);
/// Longest step of a connection, so that a peer that stalls ends its cell soon after its time.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// A way through which targets are reached.
///
/// Written as `ours`, `ours-async-std`, `real`, `direct`, or `NAME=SERVER COMMAND => CLIENT COMMAND`. The commands are
/// split like shell words and may contain `{port}` (where the server listens on 127.0.0.1), `{token}` and `{socks}` (the
/// SOCKS5 port on 127.0.0.1). A single command without `=>` is any SOCKS5 proxy on `{socks}`.
#[derive(Debug, Clone)]
pub struct Peer {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// No tunnel: shows what the load generator itself can do.
    Direct,
    /// One implementation at both ends.
    Program(Program),
    /// Words of the commands of the server, if there is one, and of the client.
    Commands { server: Option<Vec<String>>, client: Vec<String> },
}

/// The text names no peer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnknownPeer(String);

impl FromStr for Peer {
    type Err = UnknownPeer;

    fn from_str(text: &str) -> Result<Self, UnknownPeer> {
        let kind = match text {
            "direct" => Kind::Direct,
            "ours" => Kind::Program(Program::OURS),
            "ours-async-std" => Kind::Program(Program::OURS_ASYNC_STD),
            "real" => Kind::Program(Program::REAL),
            _ => {
                let (name, commands) = text.split_once('=').ok_or_else(|| {
                    UnknownPeer(format!(
                        "{text:?} is not ours, ours-async-std, real, direct, or NAME=SERVER COMMAND => CLIENT COMMAND"
                    ))
                })?;
                return Ok(Self { name: name.trim().to_owned(), kind: commands_of(commands)? });
            }
        };
        Ok(Self { name: text.to_owned(), kind })
    }
}

fn commands_of(text: &str) -> Result<Kind, UnknownPeer> {
    let words = shlex::split(text).ok_or_else(|| UnknownPeer(format!("unbalanced quotes in {text:?}")))?;
    let mut commands = words.split(|word| word == "=>").map(<[String]>::to_vec);
    let (first, second, more) = (commands.next(), commands.next(), commands.next());
    let (server, client) = match (first, second, more) {
        (Some(client), None, None) => (None, client),
        (Some(server), Some(client), None) => (Some(server), client),
        _ => return Err(UnknownPeer(format!("more than one => in {text:?}"))),
    };
    if client.is_empty() || server.as_ref().is_some_and(Vec::is_empty) {
        return Err(UnknownPeer(format!("an empty command in {text:?}")));
    }
    Ok(Kind::Commands { server, client })
}

impl Peer {
    /// Its name in the table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it can run here without further installation.
    #[must_use]
    pub fn is_available(&self) -> bool {
        match self.kind {
            Kind::Program(program) => program.is_installed(),
            Kind::Direct | Kind::Commands { .. } => true,
        }
    }

    /// Starts its processes and waits until a connection through them works.
    ///
    /// # Errors
    /// [`Error::Program`] with what they printed when that takes too long.
    pub fn start(&self) -> Result<Running, Error> {
        if let Kind::Direct = self.kind {
            return Ok(Running { socks: None, processes: Vec::new() });
        }
        let (port, socks) = (free_port()?, free_port()?);
        let (server, client) = self.commands(port, socks)?;
        let mut processes = Vec::new();
        if let Some(command) = server {
            processes.push(self.spawn("server", command, port)?);
        }
        processes.push(self.spawn("client", client, socks)?);
        let running = Running { socks: Some((Ipv4Addr::LOCALHOST, socks).into()), processes };
        running.wait_until_it_works()?;
        Ok(running)
    }

    fn commands(&self, port: u16, socks: u16) -> Result<(Option<Command>, Command), Error> {
        match &self.kind {
            Kind::Direct => unreachable!("a direct peer has no processes"),
            Kind::Program(program) => Ok((
                Some(program.server(port, TOKEN)?),
                program.client(&format!("ws://127.0.0.1:{port}"), TOKEN, socks, 1)?,
            )),
            Kind::Commands { server, client } => {
                let command = |words: &Vec<String>| {
                    let words: Vec<String> = words
                        .iter()
                        .map(|word| {
                            word.replace("{port}", &port.to_string())
                                .replace("{socks}", &socks.to_string())
                                .replace("{token}", TOKEN)
                        })
                        .collect();
                    let mut command = Command::new(&words[0]);
                    command.args(&words[1..]);
                    command
                };
                Ok((server.as_ref().map(command), command(client)))
            }
        }
    }

    /// Starts one process and waits until its port accepts.
    fn spawn(&self, part: &str, command: Command, port: u16) -> Result<Process, Error> {
        let mut process = Process::spawn(format!("{} {part}", self.name), command)?;
        let deadline = Instant::now() + START_TIMEOUT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while TcpStream::connect_timeout(&address, START_TIMEOUT).is_err() {
            if process.has_exited()? || Instant::now() > deadline {
                return Err(process.failure(&format!("nothing listens on port {port}")).into());
            }
            thread::sleep(START_POLL);
        }
        Ok(process)
    }
}

/// A peer in operation; its processes end with it.
#[derive(Debug)]
pub struct Running {
    socks: Option<SocketAddr>,
    processes: Vec<Process>,
}

impl Running {
    /// Opens a connection to `target`, without Nagle delay, with timeouts on reads and writes.
    ///
    /// # Errors
    /// [`socks::Error`].
    pub fn connect(&self, target: SocketAddr) -> Result<TcpStream, socks::Error> {
        match self.socks {
            Some(proxy) => socks::connect_within(proxy, target, STEP_TIMEOUT),
            None => Ok(socks::open_within(target, STEP_TIMEOUT)?),
        }
    }

    /// CPU time of all its processes so far; `None` without processes or where the system doesn't tell. Children of a
    /// command aren't counted.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        self.processes.iter().map(|process| procfs::cpu_time(process.id())).reduce(|a, b| Some(a? + b?))?
    }

    fn wait_until_it_works(&self) -> Result<(), Error> {
        let target = Target::local(target::echo)?;
        let deadline = Instant::now() + START_TIMEOUT;
        let attempt = || -> Result<(), Error> {
            let mut stream = self.connect(target.address())?;
            std::io::Write::write_all(&mut stream, b"ping")?;
            Ok(read_bytes(&mut stream, 4).map(drop)?)
        };
        while let Err(error) = attempt() {
            if Instant::now() > deadline {
                let output: String = self.processes.iter().map(Process::transcript).collect();
                return Err(Error::Stream(format!("no connection works: {error}\n{output}")));
            }
            thread::sleep(START_POLL);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<(Option<Vec<String>>, Vec<String>)> {
        match text.parse::<Peer>().ok()?.kind {
            Kind::Commands { server, client } => Some((server, client)),
            Kind::Direct | Kind::Program(_) => None,
        }
    }

    #[test]
    fn templates_are_split_like_shell_words() {
        let (server, client) =
            words("old='/opt/a b/ls' server -P {port} => /opt/ls client -u 'ws://h:{port}'")
                .expect("a usable template");
        assert_eq!(server.expect("a server"), ["/opt/a b/ls", "server", "-P", "{port}"]);
        assert_eq!(client, ["/opt/ls", "client", "-u", "ws://h:{port}"]);
        assert_eq!(
            words("plain=socksd -p {socks}"),
            Some((None, ["socksd", "-p", "{socks}"].map(str::to_owned).to_vec()))
        );
    }

    #[test]
    fn placeholders_are_filled_in() {
        let peer: Peer = "x=s {port} {token} => c a{socks}b".parse().expect("a usable template");
        let (server, client) = peer.commands(1, 2).expect("a usable template");
        assert_eq!(server.expect("a server").get_args().collect::<Vec<_>>(), ["1", TOKEN]);
        assert_eq!(client.get_args().collect::<Vec<_>>(), ["a2b"]);
    }

    #[test]
    fn each_of_our_binaries_is_a_peer() {
        for program in [Program::OURS, Program::OURS_ASYNC_STD] {
            let peer: Peer = program.name().parse().expect("the name of a program");
            assert!(matches!(peer.kind, Kind::Program(named) if named == program), "{peer:?}");
        }
    }

    #[test]
    fn unusable_templates_are_refused() {
        for text in ["nonsense", "x=", "x=a =>", "x=a => b => c", "x='a"] {
            assert!(text.parse::<Peer>().is_err(), "{text}");
        }
    }
}
