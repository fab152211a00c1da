//! Gzip payloads (RFC 1952): inflated step by step, within bounds, and compressed within bounds.
//!
//! ```
//! use bytes::Bytes;
//! use linksocks_sansio::wire::gzip::{Deflate, GzipError, Inflate};
//!
//! let text = b"GET / HTTP/1.1\r\n".repeat(100);
//! let mut deflate = Deflate::default();
//! let payload = deflate.compress([&text[..]], text.len() - 1).expect("it becomes smaller");
//! let payload = Bytes::copy_from_slice(payload);
//!
//! // In chunks, as the reader has room for them.
//! let mut inflate = Inflate::new(payload.clone(), 32 << 20);
//! let mut inflated = Vec::new();
//! while let Some(chunk) = inflate.next_chunk(1000)? {
//!     inflated.extend_from_slice(&chunk);
//! }
//! assert_eq!(inflated, text);
//!
//! // Never more than allowed.
//! let mut inflate = Inflate::new(payload, 1000);
//! assert_eq!(inflate.next_chunk(4096), Err(GzipError::TooLarge { cap: 1000 }));
//! # Ok::<(), GzipError>(())
//! ```

mod deflate;

use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

pub use deflate::Deflate;

/// Why a gzip payload can't be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum GzipError {
    /// It has more output than allowed.
    #[error("gzip: the payload inflates to more than {cap} bytes")]
    TooLarge {
        /// What is allowed, in bytes.
        cap: usize,
    },
    /// It ends too early.
    #[error("gzip: the payload is cut short")]
    Truncated,
    /// It is not gzip, or a checksum is wrong.
    #[error("gzip: the payload is corrupt")]
    Corrupt,
}

/// How much more of a payload than it may give out a step uses up. What compresses badly grows by far less.
const SPARE_INPUT: usize = 16 * 1024;

/// Inflates one gzip payload in chunks, as a reader has room for them.
///
/// The payload may have several members. Headers, checksums and lengths of all are verified; a
/// checksum stands behind what it covers, so bytes may come out before an error does.
///
/// While it runs it keeps the compressed payload and about 48 KiB of state; both are released at
/// the end and at an error. The time of a step grows with the payload that it uses up, which is bounded
/// like what it gives out: a payload can be 32 MiB of nothing, and take seconds.
pub struct Inflate {
    state: State,
    cap: usize,
    /// Bytes given out.
    produced: usize,
}

enum State {
    Running(Box<MultiGzDecoder<Rationed>>),
    Done,
    Failed(GzipError),
}

impl Inflate {
    /// Starts on a whole `payload`. At most `cap` bytes will come out.
    #[must_use]
    pub fn new(payload: Bytes, cap: usize) -> Self {
        let decoder = Box::new(MultiGzDecoder::new(Rationed { payload, left: 0 }));
        Self { state: State::Running(decoder), cap, produced: 0 }
    }

    /// The next bytes, at most `max`, or `None` at the end. An empty chunk says that much of the payload
    /// was used up for nothing: to be tried again after others have had a turn.
    ///
    /// # Errors
    /// [`GzipError`]; the same again on every later call.
    ///
    /// # Panics
    /// If `max` is 0: a bug of the caller, who would wait for ever.
    pub fn next_chunk(&mut self, max: usize) -> Result<Option<Bytes>, GzipError> {
        assert!(max > 0, "a chunk has at least one byte");
        let decoder = match &mut self.state {
            State::Running(decoder) => decoder,
            State::Done => return Ok(None),
            State::Failed(error) => return Err(*error),
        };
        // One byte more than allowed tells whether the end comes in time.
        let room = (self.cap - self.produced).saturating_add(1);
        let error = match fill(decoder, max.min(room)) {
            Ok(None) => {
                self.state = State::Done;
                return Ok(None);
            }
            Ok(Some(chunk)) if chunk.len() < room => {
                self.produced += chunk.len();
                return Ok(Some(chunk));
            }
            Ok(Some(_)) => GzipError::TooLarge { cap: self.cap },
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => GzipError::Truncated,
            Err(_) => GzipError::Corrupt,
        };
        self.state = State::Failed(error);
        Err(error)
    }
}

/// Without the payload, which the decoder would show.
impl fmt::Debug for Inflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflate")
            .field("cap", &self.cap)
            .field("produced", &self.produced)
            .finish_non_exhaustive()
    }
}

/// A payload of which only so much is read at a time; then it "would block".
struct Rationed {
    payload: Bytes,
    left: usize,
}

impl BufRead for Rationed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 && !self.payload.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(&self.payload[..self.payload.len().min(self.left)])
    }

    fn consume(&mut self, length: usize) {
        self.payload.advance(length);
        self.left -= length;
    }
}

impl Read for Rationed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buf)?;
        self.consume(length);
        Ok(length)
    }
}

/// Inflates until there are `max` bytes or no more (`None`: not even one), or the ration is used up.
fn fill(decoder: &mut MultiGzDecoder<Rationed>, max: usize) -> io::Result<Option<Bytes>> {
    decoder.get_mut().left = max.saturating_add(SPARE_INPUT);
    let mut chunk = Vec::with_capacity(max);
    let hungry = match decoder.take(max as u64).read_to_end(&mut chunk) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::WouldBlock => true,
        Err(error) => return Err(error),
    };
    // A few bytes that wait for a slow reader must not pin the memory of a whole chunk.
    chunk.shrink_to_fit();
    Ok((hungry || !chunk.is_empty()).then(|| Bytes::from(chunk)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::Bytes;
    use flate2::{Compression, GzBuilder, write::GzEncoder};
    use quickcheck::quickcheck;

    use super::{GzipError, Inflate, SPARE_INPUT};

    const NO_CAP: usize = usize::MAX;

    fn compress(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// The chunks that come out before the end or an error.
    fn inflate(payload: Vec<u8>, cap: usize, max: usize) -> (Vec<Bytes>, Result<(), GzipError>) {
        let mut inflate = Inflate::new(payload.into(), cap);
        let mut chunks = Vec::new();
        loop {
            match inflate.next_chunk(max) {
                Ok(Some(chunk)) => chunks.push(chunk),
                Ok(None) => {
                    assert_eq!(inflate.next_chunk(max), Ok(None), "the end is the end");
                    return (chunks, Ok(()));
                }
                Err(error) => {
                    assert_eq!(inflate.next_chunk(max), Err(error), "an error stays");
                    return (chunks, Err(error));
                }
            }
        }
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    quickcheck! {
        fn chunks_are_full_and_add_up(data: Vec<u8>, max: u8) -> bool {
            let max = usize::from(max) + 1;
            let (chunks, end) = inflate(compress(&data), data.len(), max);
            end == Ok(())
                && chunks.concat() == data
                && chunks.iter().rev().skip(1).all(|chunk| chunk.len() == max)
                && chunks.last().is_none_or(|chunk| (1..=max).contains(&chunk.len()))
        }

        fn one_byte_over_the_cap_is_an_error(data: Vec<u8>, max: u8) -> bool {
            let Some(cap) = data.len().checked_sub(1) else { return true };
            let (chunks, end) = inflate(compress(&data), cap, usize::from(max) + 1);
            end == Err(GzipError::TooLarge { cap }) && chunks.concat().len() <= cap
        }

        fn garbage_is_an_error(data: Vec<u8>) -> bool {
            inflate(data, NO_CAP / 2, 512).1.is_err()
        }

        fn garbage_behind_a_valid_header_gives_at_most_the_cap(garbage: Vec<u8>) -> bool {
            let mut payload = compress(b"")[..10].to_vec();
            payload.extend(garbage);
            let (chunks, _) = inflate(payload, 100, 64);
            chunks.concat().len() <= 100
        }
    }

    #[test]
    fn members_follow_each_other() {
        let payload = [compress(b"one "), compress(b""), compress(b"two")].concat();
        let (chunks, end) = inflate(payload, 7, 64);
        assert_eq!((chunks, end), (vec![Bytes::from_static(b"one two")], Ok(())));
    }

    #[test]
    fn the_cap_counts_all_members() {
        let payload = [compress(b"one "), compress(b"two")].concat();
        assert_eq!(inflate(payload, 6, 4).1, Err(GzipError::TooLarge { cap: 6 }));
    }

    #[test]
    fn optional_header_fields_are_skipped() {
        let mut encoder = GzBuilder::new()
            .filename("name")
            .comment("comment")
            .extra(vec![1, 2, 3])
            .mtime(7)
            .write(Vec::new(), Compression::fast());
        encoder.write_all(b"payload").unwrap();
        let payload = encoder.finish().unwrap();
        assert_eq!(inflate(payload, 7, 64).0.concat(), b"payload");
    }

    #[test]
    fn a_cut_anywhere_is_an_error() {
        let data = noise(5000);
        let payload = compress(&data);
        for end in 0..payload.len() {
            let (chunks, result) = inflate(payload[..end].to_vec(), data.len(), 1000);
            assert_eq!(result, Err(GzipError::Truncated), "cut at {end}");
            assert!(data.starts_with(&chunks.concat()), "cut at {end}");
        }
    }

    #[test]
    fn a_wrong_checksum_or_length_is_an_error() {
        let payload = compress(b"payload");
        for trailer in 1..=8 {
            let mut payload = payload.clone();
            let at = payload.len() - trailer;
            payload[at] ^= 1;
            assert_eq!(
                inflate(payload, 100, 64).1,
                Err(GzipError::Corrupt),
                "{trailer} bytes before the end"
            );
        }
    }

    #[test]
    fn what_is_not_gzip_is_an_error() {
        assert_eq!(inflate(b"nogzip, not at all".to_vec(), 100, 64).1, Err(GzipError::Corrupt));
        let trailing = [compress(b"payload"), b"garbage behind".to_vec()].concat();
        assert_eq!(inflate(trailing, 100, 3).1, Err(GzipError::Corrupt));
    }

    #[test]
    fn a_bomb_stops_at_the_cap() {
        let cap = 1 << 20;
        let (chunks, end) = inflate(compress(&vec![0; 64 << 20]), cap, 64 << 10);
        assert_eq!(end, Err(GzipError::TooLarge { cap }));
        assert!(chunks.concat().len() <= cap);
    }

    #[test]
    fn a_payload_of_nothing_takes_many_steps() {
        let payload: Vec<u8> = std::iter::repeat_n(compress(b""), 20_000).flatten().collect();
        let steps = payload.len() / (SPARE_INPUT + 1000);
        let (chunks, end) = inflate([payload, compress(b"x")].concat(), 10, 1000);
        assert_eq!((chunks.concat(), end), (b"x".to_vec(), Ok(())));
        assert!(
            chunks.len() > steps && chunks[..steps].iter().all(Bytes::is_empty),
            "{} chunks",
            chunks.len()
        );
    }

    #[test]
    fn a_short_chunk_pins_no_more_than_itself() {
        let mut inflate = Inflate::new(compress(b"short").into(), NO_CAP);
        let chunk = inflate.next_chunk(64 << 10).unwrap().unwrap();
        assert_eq!(chunk.try_into_mut().unwrap().capacity(), 5);
    }
}
