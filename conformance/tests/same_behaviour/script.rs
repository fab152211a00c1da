//! Channels of which both ends follow a script, and what each end gets to see.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use conformance::interop::IO_TIMEOUT;
use conformance::interop::pattern::random_bytes;
use conformance::interop::socks::{self, Destination};
use conformance::interop::target::{Target, read_bytes};
use driver_core::embed::{ClientHandle, PipeStream};
use futures_util::future::join;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use libtest_mimic::Failed;
use sha2::{Digest, Sha256};
use socket2::SockRef;

use crate::cast::{Played, Stage, Use, wait};

/// What an end does next.
#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    /// Sends so many bytes that can't be compressed.
    Send(usize),
    /// Sends so many bytes of text.
    Text(usize),
    /// Receives so many bytes.
    Take(usize),
    /// Sends so many bytes and its end, while it receives to the end.
    Swap(usize),
    /// Sends its end.
    Finish,
    /// Receives to the end.
    Drain,
    /// Gives up the connection at once.
    Reset,
    /// Does something else. Only an application can.
    Call(&'a (dyn Fn() -> Result<(), Failed> + Sync)),
}

/// How an application gets its connection.
#[derive(Clone, Copy)]
pub(crate) enum Way<'a> {
    /// SOCKS CONNECT to an address.
    Socks(SocketAddr),
    /// SOCKS CONNECT to `localhost`.
    Name(SocketAddr),
    /// SOCKS CONNECT with user name and password.
    Login(SocketAddr, &'a str, &'a str),
    /// HTTP CONNECT.
    Http(SocketAddr),
    /// Without a proxy port.
    Open(&'a ClientHandle),
}

/// A channel to a target of its own.
#[derive(Clone, Copy)]
pub(crate) struct Channel<'a> {
    pub name: &'a str,
    pub way: Way<'a>,
    /// The address of the target.
    pub ip: IpAddr,
    pub application: &'a [Step<'a>],
    pub target: &'static [Step<'static>],
    /// Whether it is cut in between, so that both ends see a reset.
    pub cut: bool,
}

/// The keys of what both ends send.
const FROM_APPLICATION: u64 = 1;
const FROM_TARGET: u64 = 2;

impl<'a> Channel<'a> {
    pub(crate) fn new(
        name: &'a str,
        way: Way<'a>,
        application: &'a [Step<'a>],
        target: &'static [Step<'static>],
    ) -> Self {
        Self { name, way, ip: Ipv4Addr::LOCALHOST.into(), application, target, cut: false }
    }

    /// Plays it to its end and notes the reply and what both ends have got, which must be what the
    /// other end has sent and how it has ended.
    pub(crate) fn run(&self, stage: &Stage) -> Result<(), Failed> {
        let (report, reported) = mpsc::channel();
        let script = self.target;
        let target = Target::spawn(self.ip, move |stream| {
            // Nobody listens any more when the scenario has failed.
            let _ = report.send(play(Connection::Tcp(stream), script, FROM_TARGET));
            Ok(())
        })?;
        stage.name_port(Use::Listener, target.address(), self.name);
        let connection = self.connect(stage, target.address())?;
        let at_application = play(connection, self.application, FROM_APPLICATION)?;
        let at_target = reported.recv_timeout(IO_TIMEOUT)??;
        stage.note(self.name, "application", &at_application.to_string());
        stage.note(self.name, "target", &at_target.to_string());
        let (from_application, from_target) =
            (self.heard_from(self.application, FROM_APPLICATION), self.heard_from(self.target, FROM_TARGET));
        stage.keep(target);
        stage.played(Played {
            name: self.name.to_owned(),
            sent: [from_application.bytes.len(), from_target.bytes.len()],
            regular: [from_application.end, from_target.end] == [Some(End::Eof); 2],
        });
        from_target.check(&at_application, &format!("{}, application", self.name))?;
        from_application.check(&at_target, &format!("{}, target", self.name))
    }

    /// What the other end must get from one with this script.
    fn heard_from(&self, script: &[Step<'_>], key: u64) -> Heard {
        let heard = Heard::of(script, key);
        if self.cut { Heard { end: Some(End::Reset), ..heard } } else { heard }
    }

    fn connect(&self, stage: &Stage, target: SocketAddr) -> Result<Connection, Failed> {
        let destination = match self.way {
            Way::Name(_) => Destination::Name("localhost".to_owned(), target.port()),
            Way::Socks(_) | Way::Login(..) | Way::Http(_) | Way::Open(_) => target.into(),
        };
        match self.way {
            Way::Socks(proxy) | Way::Name(proxy) => {
                Ok(Connection::Tcp(ask(stage, self.name, proxy, None, &destination)??))
            }
            Way::Login(proxy, user, password) => {
                Ok(Connection::Tcp(ask(stage, self.name, proxy, Some((user, password)), &destination)??))
            }
            Way::Http(proxy) => {
                let mut stream = application(stage, self.name, proxy)?;
                write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")?;
                let head = read_head(&mut stream)?;
                stage.note(self.name, "reply", &head);
                assert_eq!(head, "HTTP/1.1 200 Connection Established\r\n\r\n");
                Ok(Connection::Tcp(stream))
            }
            Way::Open(client) => {
                let stream = wait(client.open(target.into()))?;
                stage.note(self.name, "reply", "opened");
                Ok(Connection::Pipe(stream))
            }
        }
    }
}

/// Connects an application to a proxy port.
pub(crate) fn application(stage: &Stage, name: &str, proxy: SocketAddr) -> Result<TcpStream, Failed> {
    let stream = socks::open(proxy)?;
    stage.name_port(Use::Application, stream.local_addr()?, name);
    Ok(stream)
}

/// Asks a SOCKS port for a connection and notes the reply.
pub(crate) fn ask(
    stage: &Stage,
    name: &str,
    proxy: SocketAddr,
    login: Option<(&str, &str)>,
    destination: &Destination,
) -> Result<Result<TcpStream, socks::Error>, Failed> {
    let mut stream = application(stage, name, proxy)?;
    match socks::ask(&mut stream, login, destination) {
        Ok(()) => {
            stage.note(name, "reply", "SOCKS reply 0x00");
            Ok(Ok(stream))
        }
        Err(error) => {
            stage.note(name, "reply", &error.to_string());
            stage.keep(stream);
            Ok(Err(error))
        }
    }
}

/// Reads an HTTP message up to its body.
pub(crate) fn read_head(stream: &mut impl Read) -> Result<String, Failed> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read_bytes(stream, 1)?);
    }
    Ok(String::from_utf8(head)?)
}

/// What an end has received, and how that ended.
#[derive(Default)]
pub(crate) struct Heard {
    bytes: Vec<u8>,
    end: Option<End>,
}

/// The end of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Eof,
    Reset,
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = digest(&self.bytes);
        let end = match self.end {
            None => "no end",
            Some(End::Eof) => "EOF",
            Some(End::Reset) => "a reset",
        };
        write!(f, "received {} bytes ({digest}), then {end}", self.bytes.len())
    }
}

impl Heard {
    /// What can be heard from an end with this script and this key.
    fn of(script: &[Step<'_>], key: u64) -> Self {
        let mut heard = Self::default();
        for step in script {
            match *step {
                Step::Send(length) => heard.bytes.extend(random_bytes(key, length)),
                Step::Text(length) => heard.bytes.extend(text(length)),
                Step::Swap(length) => {
                    heard.bytes.extend(random_bytes(key, length));
                    heard.end = Some(End::Eof);
                }
                Step::Finish => heard.end = Some(End::Eof),
                Step::Reset => heard.end = Some(End::Reset),
                Step::Take(_) | Step::Drain | Step::Call(_) => {}
            }
        }
        heard
    }

    /// Compares what was heard with this; who does not wait for the end has heard none.
    fn check(&self, heard: &Self, who: &str) -> Result<(), Failed> {
        if heard.bytes == self.bytes && (heard.end.is_none() || heard.end == self.end) {
            return Ok(());
        }
        Err(format!("{who}: {heard} instead of {self}").into())
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.end == Some(End::Reset)
    }

    fn note_end(&mut self, result: io::Result<usize>) -> io::Result<()> {
        self.end = match result {
            Ok(_) => Some(End::Eof),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(End::Reset),
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

/// An end that can be scripted.
pub(crate) enum Connection {
    Tcp(TcpStream),
    Pipe(PipeStream),
}

impl Connection {
    fn send(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(data),
            Self::Pipe(stream) => wait(stream.write_all(data)),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Pipe(stream) => wait(stream.close()),
        }
    }

    /// Sends `data` and the end, while it receives.
    fn swap(&mut self, data: &[u8], heard: &mut Heard) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                let mut sending = stream.try_clone()?;
                thread::scope(|scope| {
                    let sent = scope.spawn(move || {
                        sending.write_all(data)?;
                        sending.shutdown(Shutdown::Write)
                    });
                    let end = stream.read_to_end(&mut heard.bytes);
                    sent.join().expect("it does not panic")?;
                    heard.note_end(end)
                })
            }
            Self::Pipe(stream) => {
                let (mut reading, mut writing) = stream.split();
                let send = async {
                    writing.write_all(data).await?;
                    writing.close().await
                };
                let (sent, end) = wait(join(send, reading.read_to_end(&mut heard.bytes)));
                sent?;
                heard.note_end(end)
            }
        }
    }

    fn drain(&mut self, heard: &mut Heard) -> io::Result<()> {
        let end = match self {
            Self::Tcp(stream) => stream.read_to_end(&mut heard.bytes),
            Self::Pipe(stream) => wait(stream.read_to_end(&mut heard.bytes)),
        };
        heard.note_end(end)
    }

    fn take(&mut self, length: usize, heard: &mut Heard) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => heard.bytes.extend(read_bytes(stream, length)?),
            Self::Pipe(stream) => {
                let start = heard.bytes.len();
                heard.bytes.resize(start + length, 0);
                wait(stream.read_exact(&mut heard.bytes[start..]))?;
            }
        }
        Ok(())
    }

    /// An abandoned pipe is a reset.
    fn reset(self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
            Self::Pipe(_) => Ok(()),
        }
    }
}

/// Follows a script.
pub(crate) fn play(mut connection: Connection, script: &[Step<'_>], key: u64) -> Result<Heard, Failed> {
    let mut heard = Heard::default();
    for step in script {
        match *step {
            Step::Send(length) => connection.send(&random_bytes(key, length))?,
            Step::Text(length) => connection.send(&text(length))?,
            Step::Take(length) => connection.take(length, &mut heard)?,
            Step::Swap(length) => connection.swap(&random_bytes(key, length), &mut heard)?,
            Step::Finish => connection.finish()?,
            Step::Drain => connection.drain(&mut heard)?,
            Step::Call(action) => action()?,
            Step::Reset => {
                connection.reset()?;
                return Ok(heard);
            }
        }
    }
    Ok(heard)
}

/// Short, and as good as unique.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}

/// Lines of which gzip leaves less than half.
fn text(length: usize) -> Vec<u8> {
    let mut text: Vec<u8> = (0..=length / 20)
        .flat_map(|line| format!("{line:012} GET /index/{:x}\n", line * line).into_bytes())
        .collect();
    text.truncate(length);
    text
}
