//! Success is told before it is certain.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use conformance::interop::pattern::random_bytes;
use conformance::interop::target::{self, Target, read_bytes};
use conformance::interop::{Tunnel, free_port, socks};
use sha2::{Digest, Sha256};

use crate::TestResult;

/// The longest of the uploads.
const LONGEST: usize = 300_000;

/// Applications that wait for no answer, neither to their greeting nor to their request: every byte reaches the target.
pub(crate) fn early_data(tunnel: &mut Tunnel) -> TestResult {
    for round in 1..=30 {
        let length = LONGEST / 30 * round;
        let data = random_bytes(round as u64, length);
        let target = Target::local(move |mut stream| {
            let received = read_bytes(&mut stream, length)?;
            stream.write_all(&Sha256::digest(&received))?;
            target::close_gently(stream)
        })?;
        let mut stream = socks::open(tunnel.socks())?;
        let port = target.address().port().to_be_bytes();
        let mut request = vec![5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port[0], port[1]];
        // Little follows in the same segment, the rest at once.
        request.extend(&data[..1000]);
        stream.write_all(&request)?;
        stream.write_all(&data[1000..])?;
        assert_eq!(read_bytes(&mut stream, 12)?[..4], [5, 0, 5, 0], "success");
        let digest = read_bytes(&mut stream, 32)?;
        assert_eq!(digest, Sha256::digest(&data).as_slice(), "SHA-256 of {length} bytes");
    }
    Ok(())
}

/// The application sees success, then a reset: nothing that it could take for an answer.
pub(crate) fn refused_target(tunnel: &mut Tunnel) -> TestResult {
    let refusing = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    for upload in [&b""[..], b"request"] {
        let started = Instant::now();
        let mut stream = match tunnel.connect(refusing) {
            Ok(stream) => stream,
            // The reset overtook the reply.
            Err(socks::Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset => continue,
            Err(error) => return Err(error.into()),
        };
        // Whichever comes first behind the reset reports it; a read behind a failed write would see a plain end.
        let end = stream.write_all(upload).and_then(|()| stream.read(&mut [0; 1]));
        assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
        assert!(started.elapsed() < Duration::from_secs(2), "at once, not after {:?}", started.elapsed());
    }
    let target = Target::local(target::echo)?;
    crate::transfer::ping(&mut tunnel.connect(target.address())?, b"the link is fine")
}
