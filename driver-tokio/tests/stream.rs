//! The pump of a socket over real loopback connections.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs, dead_code, unreachable_pub)]

mod common;

use std::io::ErrorKind;
use std::time::Duration;

use common::{ANY_PORT, Ids, PATIENCE, Reports, connected, patient, pattern};
use driver_core::pumps::stream::{self, StreamCommand};
use driver_tokio::TokioRuntime;
use driver_tokio::linksocks_sansio::Input;
use driver_tokio::linksocks_sansio::error::SocketError;
use driver_tokio::linksocks_sansio::io::ReadCredit;
use futures_channel::mpsc::{UnboundedSender, unbounded};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A pump between a test, which plays the engine, and an application.
struct Rig {
    commands: UnboundedSender<StreamCommand>,
    reports: Reports,
    application: TcpStream,
}

impl Rig {
    async fn new(credit: usize, chunk: usize) -> Self {
        let (stream, application) = connected().await;
        let (inbox, reports) = Reports::new();
        let (commands, receiver) = unbounded();
        tokio::spawn(stream::offer(TokioRuntime::current(), stream, receiver, inbox));
        let rig = Self { commands, reports, application };
        let read = ReadCredit { bytes: credit, chunk };
        rig.tell(StreamCommand::Adopt { socket: Ids::new().socket, read });
        rig
    }

    fn tell(&self, command: StreamCommand) {
        self.commands.unbounded_send(command).unwrap();
    }

    fn write(&self, data: &[u8]) {
        self.tell(StreamCommand::Write(data.to_vec().into()));
    }

    async fn written(&mut self, total: usize) {
        let mut sum = 0;
        while sum < total {
            let bytes = |input| match input {
                Input::SocketWritten { bytes, .. } => Some(bytes),
                _ => None,
            };
            sum += self.reports.expect("SocketWritten", bytes).await;
        }
        assert_eq!(sum, total);
    }

    async fn eof(&mut self) {
        self.reports.expect("EOF", |input| matches!(input, Input::SocketEof { .. }).then_some(())).await;
    }

    async fn read_to_end(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        patient(self.application.read_to_end(&mut bytes)).await.map(|_| bytes)
    }
}

async fn failure(reports: &mut Reports) -> SocketError {
    let error = |input| match input {
        Input::SocketFailed { error, .. } => Some(error),
        _ => None,
    };
    reports.expect("SocketFailed", error).await
}

#[tokio::test]
async fn a_close_delivers_everything_although_input_is_unread() {
    let mut rig = Rig::new(0, 0).await;
    patient(rig.application.write_all(&pattern(16 * 1024))).await.unwrap();
    let data = pattern(256 * 1024);
    for part in data.chunks(10_000) {
        rig.write(part);
    }
    rig.tell(StreamCommand::Close { linger: PATIENCE });
    assert!(rig.read_to_end().await.unwrap() == data, "all bytes, in order, then EOF");
    // The application learns of the end before the descriptor goes.
    rig.written(data.len()).await;
    rig.reports.assert_silent();
    rig.application.write_all(b"too late").await.unwrap();
    drop(rig.application);
    rig.reports.closed().await;
}

#[tokio::test]
async fn a_close_waits_no_longer_than_it_may() {
    let mut rig = Rig::new(0, 0).await;
    rig.write(b"last words");
    rig.tell(StreamCommand::Close { linger: Duration::from_millis(20) });
    rig.written(10).await;
    rig.reports.closed().await;
    assert_eq!(rig.read_to_end().await.unwrap(), b"last words");
}

#[tokio::test]
async fn what_can_not_be_written_in_time_ends_with_a_reset() {
    let mut rig = Rig::new(0, 0).await;
    let data = pattern(32 * 1024 * 1024);
    rig.write(&data);
    rig.tell(StreamCommand::Close { linger: Duration::from_millis(20) });
    while !matches!(rig.reports.next().await, Some(Input::SocketClosed { .. })) {}
    assert_eq!(rig.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn after_eof_a_close_is_immediate() {
    let mut rig = Rig::new(1, 1).await;
    rig.application.shutdown().await.unwrap();
    rig.eof().await;
    rig.write(b"answer");
    rig.tell(StreamCommand::Close { linger: PATIENCE * 2 });
    rig.written(6).await;
    rig.reports.closed().await;
    assert_eq!(rig.read_to_end().await.unwrap(), b"answer");
}

#[tokio::test]
async fn eof_is_told_once_and_writing_goes_on() {
    let mut rig = Rig::new(100, 100).await;
    rig.application.write_all(b"request").await.unwrap();
    rig.application.shutdown().await.unwrap();
    assert_eq!(rig.reports.read(7).await, b"request");
    rig.eof().await;
    for _ in 0..3 {
        rig.write(b"answer");
        rig.written(6).await;
        rig.tell(StreamCommand::Read(ReadCredit { bytes: 100, chunk: 100 }));
    }
    rig.tell(StreamCommand::ShutdownWrite);
    assert_eq!(rig.read_to_end().await.unwrap(), b"answeransweranswer");
    rig.reports.assert_silent();
}

#[tokio::test]
async fn the_write_half_can_end_first() {
    let mut rig = Rig::new(100, 100).await;
    rig.write(b"request");
    rig.tell(StreamCommand::ShutdownWrite);
    assert_eq!(rig.read_to_end().await.unwrap(), b"request");
    rig.written(7).await;
    rig.application.write_all(b"answer").await.unwrap();
    assert_eq!(rig.reports.read(6).await, b"answer");
}

#[tokio::test]
async fn a_reset_is_seen_as_one_and_drops_what_was_not_written() {
    let mut rig = Rig::new(0, 0).await;
    rig.write(&pattern(32 * 1024 * 1024));
    rig.tell(StreamCommand::Reset);
    while !matches!(rig.reports.next().await, Some(Input::SocketClosed { .. })) {}
    assert_eq!(rig.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_pump_without_owner_resets() {
    let rig = Rig::new(0, 0).await;
    let Rig { commands, mut reports, mut application } = rig;
    drop(commands);
    let error = patient(application.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(reports.next().await.is_none());
}

#[tokio::test]
async fn an_ordered_close_is_carried_out_without_owner() {
    let mut rig = Rig::new(0, 0).await;
    let data = pattern(4 * 1024 * 1024);
    rig.write(&data);
    rig.tell(StreamCommand::Close { linger: PATIENCE });
    rig.commands.close_channel();
    assert!(rig.read_to_end().await.unwrap() == data);
}

#[tokio::test]
async fn reads_stay_within_credit_and_chunk() {
    let mut rig = Rig::new(10_000, 4096).await;
    let data = pattern(100_000);
    patient(rig.application.write_all(&data)).await.unwrap();
    let first = rig.reports.read(10_000).await;
    assert_eq!(first.len(), 10_000);
    // Everything else that the pump would do, it would have done by the time this is written.
    rig.write(b"x");
    rig.written(1).await;
    rig.tell(StreamCommand::Read(ReadCredit { bytes: 90_000, chunk: 50_000 }));
    let second = rig.reports.read(90_000).await;
    assert!([first, second].concat() == data);
}

#[tokio::test]
async fn no_read_is_larger_than_its_chunk() {
    let mut rig = Rig::new(100_000, 1000).await;
    patient(rig.application.write_all(&pattern(20_000))).await.unwrap();
    let mut total = 0;
    while total < 20_000 {
        let length = |input| match input {
            Input::SocketRead { buf, .. } => Some(buf.len()),
            _ => None,
        };
        let length = rig.reports.expect("data", length).await;
        assert!((1..=1000).contains(&length), "{length}");
        total += length;
    }
}

#[tokio::test]
async fn an_application_that_resets_is_told() {
    let Rig { commands, mut reports, application } = Rig::new(100, 100).await;
    application.set_zero_linger().unwrap();
    drop(application);
    assert_eq!(failure(&mut reports).await, SocketError::Reset);
    assert!(reports.next().await.is_none());
    drop(commands);
}

/// An application may answer and go away before it has read all of the request.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_answer_is_read_before_the_failure_of_a_write_is_told() {
    let mut rig = Rig::new(0, 0).await;
    rig.write(b"request");
    rig.written(7).await;
    rig.application.readable().await.unwrap();
    rig.application.write_all(b"answer").await.unwrap();
    let Rig { commands, mut reports, application } = rig;
    drop(application);
    let tell = |command| commands.unbounded_send(command).unwrap();
    // The RST is under way; the first write that meets it fails.
    for _ in 0..100 {
        tell(StreamCommand::Write(vec![0; 1000].into()));
        tokio::task::yield_now().await;
    }
    tell(StreamCommand::Read(ReadCredit { bytes: 100, chunk: 100 }));
    let mut answer = Vec::new();
    loop {
        match reports.next().await {
            Some(Input::SocketWritten { .. }) => {}
            Some(Input::SocketRead { buf, .. }) => answer.extend_from_slice(buf.payload()),
            Some(Input::SocketFailed { .. }) => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(answer, b"answer");
}

#[tokio::test]
async fn connecting_and_failing_to_connect() {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = Ids::new().socket;
    let connect = || {
        let (inbox, reports) = Reports::new();
        let (commands, receiver) = unbounded();
        let read = ReadCredit { bytes: 10, chunk: 10 };
        let runtime = TokioRuntime::current();
        tokio::spawn(stream::connect(runtime, socket, address, read, receiver, inbox));
        (commands, reports)
    };

    let (commands, mut reports) = connect();
    let (mut application, _) = patient(listener.accept()).await.unwrap();
    application.write_all(b"hello").await.unwrap();
    reports.expect("SocketOpened", |input| matches!(input, Input::SocketOpened { .. }).then_some(())).await;
    assert_eq!(reports.read(5).await, b"hello");
    drop(commands);

    // A reset cancels: nothing is opened.
    let (commands, mut reports) = connect();
    commands.unbounded_send(StreamCommand::Reset).unwrap();
    reports.closed().await;
    assert!(reports.next().await.is_none());

    drop(listener);
    let (_commands, mut reports) = connect();
    assert_eq!(failure(&mut reports).await, SocketError::Refused);
}

#[tokio::test]
async fn an_offered_connection_that_is_refused_ends() {
    let (stream, mut application) = connected().await;
    let (inbox, mut reports) = Reports::new();
    let (commands, receiver) = unbounded();
    tokio::spawn(stream::offer(TokioRuntime::current(), stream, receiver, inbox));
    drop(commands);
    assert_eq!(patient(application.read(&mut [0; 1])).await.unwrap(), 0);
    assert!(reports.next().await.is_none());
}
