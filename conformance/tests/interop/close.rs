//! Connections end in order: every byte, then the end, and each direction for itself.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use conformance::interop::pattern::random_bytes;
use conformance::interop::target::{self, Target, discard};
use conformance::interop::{IO_TIMEOUT, Tunnel};

use crate::TestResult;
use crate::transfer::ping;

const BURST: usize = 256 * 1024;
const BURST_DEADLINE: Duration = Duration::from_secs(5);

/// A target sends 256 KiB and closes at once, while the client is still sending: all bytes, then the end of the stream,
/// 200 times in a row.
pub(crate) fn target_closes_while_the_client_sends(tunnel: &mut Tunnel) -> TestResult {
    let data = Arc::new(random_bytes(256, BURST));
    let target = Target::local({
        let data = Arc::clone(&data);
        move |stream| target::send_and_close(stream, &data)
    })?;
    for round in 1..=200 {
        let started = Instant::now();
        let stream = tunnel.connect(target.address())?;
        stream.set_read_timeout(Some(BURST_DEADLINE))?;
        stream.set_write_timeout(Some(BURST_DEADLINE))?;
        let received = receive_while_sending(&stream);
        let took = started.elapsed();
        match received {
            Ok(received) => assert!(
                received == *data,
                "round {round}: {} of {BURST} bytes before the end, or wrong ones",
                received.len()
            ),
            Err(error) => return Err(format!("round {round}, after {took:?}: {error}").into()),
        }
        assert!(took < BURST_DEADLINE, "round {round} took {took:?}");
    }
    Ok(())
}

/// Reads to the end while another thread sends without pause.
fn receive_while_sending(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        let mut sending = stream;
        scope.spawn(move || {
            // The far end may be gone at any time: only what is received counts.
            while !done.load(Ordering::Relaxed) && sending.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let mut received = Vec::with_capacity(BURST);
        let mut receiving = stream;
        let outcome = receiving.read_to_end(&mut received);
        done.store(true, Ordering::Relaxed);
        // Ends a write that waits for a far end that no longer reads.
        let _ = stream.shutdown(Shutdown::Both);
        outcome.map(|_| received)
    })
}

/// The client sends a request and FIN; the target answers only after that FIN.
pub(crate) fn client_half_closes_first(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::local(|mut stream| {
        let length = discard(&mut stream)?;
        stream.write_all(&length.to_be_bytes())?;
        stream.write_all(&random_bytes(length, BURST))
    })?;
    for length in [0, 1, 1_000_000] {
        let mut stream = tunnel.connect(target.address())?;
        stream.write_all(&random_bytes(1, length))?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let (count, body) = answer.split_at_checked(8).ok_or("the answer is cut")?;
        assert_eq!(count, (length as u64).to_be_bytes(), "bytes the target saw before the end");
        assert!(body == random_bytes(length as u64, BURST), "wrong answer of {} bytes", body.len());
    }
    Ok(())
}

/// The target sends its last byte and FIN first; the client goes on sending, and all of it arrives.
pub(crate) fn target_half_closes_first(tunnel: &mut Tunnel) -> TestResult {
    const UPLOAD: usize = 8 * 1024 * 1024;
    let (report, reported) = mpsc::channel();
    let target = Target::local(move |mut stream| {
        stream.write_all(b"bye")?;
        stream.shutdown(Shutdown::Write)?;
        let mut received = Vec::new();
        let outcome = stream.read_to_end(&mut received).map(|_| received);
        // Nobody listens any more when the test has failed.
        let _ = report.send(outcome);
        Ok(())
    })?;
    let mut stream = tunnel.connect(target.address())?;
    let mut greeting = Vec::new();
    stream.read_to_end(&mut greeting)?;
    assert_eq!(greeting, b"bye");

    let data = random_bytes(2, UPLOAD);
    stream.write_all(&data)?;
    stream.shutdown(Shutdown::Write)?;
    let received = reported.recv_timeout(IO_TIMEOUT)??;
    assert!(received == data, "the target got {} of {UPLOAD} bytes, or wrong ones", received.len());

    let echo = Target::local(target::echo)?;
    ping(&mut tunnel.connect(echo.address())?, b"the link is fine")
}
