//! The pump of a socket over real loopback connections.

use std::io::ErrorKind;
use std::time::Duration;

use driver_core::pumps::stream::{self, StreamCommand};
use driver_core::runtime::Runtime;
use futures_channel::mpsc::{UnboundedSender, unbounded};
use linksocks_sansio::Input;
use linksocks_sansio::error::SocketError;
use linksocks_sansio::io::ReadCredit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{ANY_PORT, Ids, PATIENCE, Reports, connected, patient, pattern, reserved};

scenarios! {
    a_close_delivers_everything_although_input_is_unread,
    a_close_waits_no_longer_than_it_may,
    what_can_not_be_written_in_time_ends_with_a_reset,
    after_eof_a_close_is_immediate,
    eof_is_told_once_and_writing_goes_on,
    the_write_half_can_end_first,
    a_reset_is_seen_as_one_and_drops_what_was_not_written,
    a_pump_without_owner_resets,
    an_ordered_close_is_carried_out_without_owner,
    reads_stay_within_credit_and_chunk,
    no_read_is_larger_than_its_chunk,
    an_application_that_resets_is_told,
    #[cfg(target_os = "linux")]
    an_answer_is_read_before_the_failure_of_a_write_is_told,
    connecting_and_failing_to_connect,
    an_offered_connection_that_is_refused_ends,
}

/// A pump between a test, which plays the engine, and an application.
struct Rig {
    commands: UnboundedSender<StreamCommand>,
    reports: Reports,
    application: TcpStream,
}

impl Rig {
    async fn new<R: Runtime>(runtime: &R, credit: usize, chunk: usize) -> Self {
        let (stream, application) = connected(runtime).await;
        let (inbox, reports) = Reports::new();
        let (commands, receiver) = unbounded();
        runtime.spawn(stream::offer(runtime.clone(), stream, receiver, inbox));
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

async fn a_close_delivers_everything_although_input_is_unread<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 0, 0).await;
    patient(rig.application.write_all(&pattern(16 * 1024))).await.unwrap();
    let data = pattern(256 * 1024);
    for part in data.chunks(10_000) {
        rig.write(part);
    }
    rig.tell(StreamCommand::Close { linger: PATIENCE });
    assert!(rig.read_to_end().await.unwrap() == data, "all bytes, in order, then EOF");
    // The application learns of the end before the descriptor goes. This is more than fits into the
    // kernel, so it succeeds only if it is still read.
    patient(rig.application.write_all(&pattern(32 * 1024 * 1024))).await.unwrap();
    rig.written(data.len()).await;
    rig.reports.assert_silent();
    drop(rig.application);
    rig.reports.closed().await;
}

async fn a_close_waits_no_longer_than_it_may<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 0, 0).await;
    rig.write(b"last words");
    // However late the pump gets its turn, nothing but the other end's EOF is left to wait for.
    rig.tell(StreamCommand::ShutdownWrite);
    rig.written(10).await;
    assert_eq!(rig.read_to_end().await.unwrap(), b"last words");
    rig.tell(StreamCommand::Close { linger: Duration::from_millis(20) });
    rig.reports.closed().await;
}

async fn what_can_not_be_written_in_time_ends_with_a_reset<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 0, 0).await;
    let data = pattern(32 * 1024 * 1024);
    rig.write(&data);
    rig.tell(StreamCommand::Close { linger: Duration::from_millis(20) });
    while !matches!(rig.reports.next().await, Some(Input::SocketClosed { .. })) {}
    assert_eq!(rig.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn after_eof_a_close_is_immediate<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 1, 1).await;
    rig.application.shutdown().await.unwrap();
    rig.eof().await;
    rig.write(b"answer");
    rig.tell(StreamCommand::Close { linger: PATIENCE * 2 });
    rig.written(6).await;
    rig.reports.closed().await;
    assert_eq!(rig.read_to_end().await.unwrap(), b"answer");
}

async fn eof_is_told_once_and_writing_goes_on<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 100, 100).await;
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
    rig.tell(StreamCommand::Close { linger: PATIENCE });
    rig.reports.closed().await;
}

async fn the_write_half_can_end_first<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 100, 100).await;
    rig.write(b"request");
    rig.tell(StreamCommand::ShutdownWrite);
    assert_eq!(rig.read_to_end().await.unwrap(), b"request");
    rig.written(7).await;
    rig.application.write_all(b"answer").await.unwrap();
    assert_eq!(rig.reports.read(6).await, b"answer");
}

async fn a_reset_is_seen_as_one_and_drops_what_was_not_written<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 0, 0).await;
    rig.write(&pattern(32 * 1024 * 1024));
    rig.tell(StreamCommand::Reset);
    while !matches!(rig.reports.next().await, Some(Input::SocketClosed { .. })) {}
    assert_eq!(rig.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn a_pump_without_owner_resets<R: Runtime>(runtime: R) {
    let rig = Rig::new(&runtime, 0, 0).await;
    let Rig { commands, mut reports, mut application } = rig;
    drop(commands);
    let error = patient(application.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(reports.next().await.is_none());
}

async fn an_ordered_close_is_carried_out_without_owner<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 0, 0).await;
    let data = pattern(4 * 1024 * 1024);
    rig.write(&data);
    rig.tell(StreamCommand::Close { linger: PATIENCE });
    rig.commands.close_channel();
    assert!(rig.read_to_end().await.unwrap() == data);
}

async fn reads_stay_within_credit_and_chunk<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 10_000, 4096).await;
    let data = pattern(100_000);
    patient(rig.application.write_all(&data)).await.unwrap();
    let first = rig.reports.read(10_000).await;
    assert_eq!(first.len(), 10_000);
    // The pump writes before it reads on, and reports in order.
    rig.write(b"x");
    rig.written(1).await;
    rig.tell(StreamCommand::Read(ReadCredit { bytes: 90_000, chunk: 50_000 }));
    let second = rig.reports.read(90_000).await;
    assert!([first, second].concat() == data);
}

async fn no_read_is_larger_than_its_chunk<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 100_000, 1000).await;
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

async fn an_application_that_resets_is_told<R: Runtime>(runtime: R) {
    let Rig { commands, mut reports, application } = Rig::new(&runtime, 100, 100).await;
    application.set_zero_linger().unwrap();
    drop(application);
    assert_eq!(failure(&mut reports).await, SocketError::Reset);
    assert!(reports.next().await.is_none());
    drop(commands);
}

/// An application may answer and go away before it has read all of the request.
#[cfg(target_os = "linux")]
async fn an_answer_is_read_before_the_failure_of_a_write_is_told<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 0, 0).await;
    rig.write(b"request");
    rig.written(7).await;
    rig.application.readable().await.unwrap();
    rig.application.write_all(b"answer").await.unwrap();
    let Rig { commands, mut reports, application } = rig;
    drop(application);
    let tell = |command| commands.unbounded_send(command).unwrap();
    // On the loopback the RST is there already, so this write fails.
    tell(StreamCommand::Write(vec![0; 1000].into()));
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

async fn connecting_and_failing_to_connect<R: Runtime>(runtime: R) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = Ids::new().socket;
    let connect = |address, early: Option<StreamCommand>| {
        let (inbox, reports) = Reports::new();
        let (commands, receiver) = unbounded();
        if let Some(command) = early {
            commands.unbounded_send(command).unwrap();
        }
        let read = ReadCredit { bytes: 10, chunk: 10 };
        runtime.spawn(stream::connect(runtime.clone(), socket, address, read, receiver, inbox));
        (commands, reports)
    };

    let (commands, mut reports) = connect(address, None);
    let (mut application, _) = patient(listener.accept()).await.unwrap();
    application.write_all(b"hello").await.unwrap();
    reports.expect("SocketOpened", |input| matches!(input, Input::SocketOpened { .. }).then_some(())).await;
    assert_eq!(reports.read(5).await, b"hello");
    drop(commands);

    // A reset cancels: nothing is opened.
    let (_commands, mut reports) = connect(address, Some(StreamCommand::Reset));
    reports.closed().await;
    assert!(reports.next().await.is_none());

    let (_socket, refused) = reserved();
    let (_commands, mut reports) = connect(refused, None);
    assert_eq!(failure(&mut reports).await, SocketError::Refused);
}

async fn an_offered_connection_that_is_refused_ends<R: Runtime>(runtime: R) {
    let (stream, mut application) = connected(&runtime).await;
    let (inbox, mut reports) = Reports::new();
    let (commands, receiver) = unbounded();
    runtime.spawn(stream::offer(runtime.clone(), stream, receiver, inbox));
    drop(commands);
    assert_eq!(patient(application.read(&mut [0; 1])).await.unwrap(), 0);
    assert!(reports.next().await.is_none());
}
