//! Where the body of a message ends (RFC 9112 sections 6 and 7).

use thiserror::Error;

/// The most bytes of a chunk's extensions, and of all trailer fields.
const MAX_EXTENSION: usize = 4 * 1024;
const MAX_TRAILERS: usize = 64 * 1024;

/// What is still to come of a body. Its bytes are passed on as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks, the last one, trailer fields.
    Chunked(Chunks),
    /// All until the end of the connection.
    UntilClose,
}

/// What is wrong with a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed chunk")]
pub(super) struct ChunkError;

impl Body {
    /// The body of a message that has none.
    pub(super) const NONE: Self = Self::Length(0);

    /// A chunked body. `lenient`: white space may follow the size, as some servers pad it.
    pub(super) fn chunked(lenient: bool) -> Self {
        Self::Chunked(Chunks { lenient, state: Chunk::Size { size: 0, digits: 0 }, extra: 0 })
    }

    /// Whether all of it has come. Without a length only the end of the connection can tell.
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.state == Chunk::Done,
            Self::UntilClose => false,
        }
    }

    /// Takes what belongs to the body off the front of `input`, and returns its length: not 0, unless
    /// the input is empty or the body complete.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        match self {
            Self::Length(left) => {
                let length = clamp(*left, input.len());
                *left -= length as u64;
                Ok(length)
            }
            Self::Chunked(chunks) => chunks.take(input),
            Self::UntilClose => Ok(input.len()),
        }
    }
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

/// How a chunked body stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    lenient: bool,
    state: Chunk,
    /// Bytes of the current extension or of the trailers.
    extra: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    /// LF behind the size.
    SizeEnd {
        size: u64,
    },
    Data(u64),
    /// CRLF behind the data.
    DataCr,
    DataLf,
    /// The first byte of a trailer field or of the final CRLF.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    /// The final LF.
    LastLf,
    Done,
}

impl Chunks {
    fn take(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        let mut position = 0;
        while position < input.len() && self.state != Chunk::Done {
            if let Chunk::Data(left) = self.state {
                let length = clamp(left, input.len() - position);
                position += length;
                let left = left - length as u64;
                self.state = if left == 0 { Chunk::DataCr } else { Chunk::Data(left) };
            } else {
                self.state = self.next(input[position])?;
                position += 1;
            }
        }
        Ok(position)
    }

    /// The state after one byte that is not data.
    fn next(&mut self, byte: u8) -> Result<Chunk, ChunkError> {
        Ok(match (self.state, byte) {
            (Chunk::Size { size, digits: digits @ 0..16 }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).ok_or(ChunkError)?;
                Chunk::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Chunk::Size { digits: 0, .. }, _) => return Err(ChunkError),
            (Chunk::Size { size, .. } | Chunk::Extension { size }, b'\r') => Chunk::SizeEnd { size },
            (Chunk::Size { size, .. }, b';') => {
                self.extra = 0;
                Chunk::Extension { size }
            }
            (Chunk::Size { size, .. }, b' ' | b'\t') if self.lenient => {
                self.extra = 0;
                Chunk::Extension { size }
            }
            (Chunk::Extension { size }, byte) if is_text(byte) => {
                self.spend(MAX_EXTENSION)?;
                Chunk::Extension { size }
            }
            (Chunk::SizeEnd { size: 0 }, b'\n') => {
                self.extra = 0;
                Chunk::TrailerStart
            }
            (Chunk::SizeEnd { size }, b'\n') => Chunk::Data(size),
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => Chunk::Size { size: 0, digits: 0 },
            (Chunk::TrailerStart, b'\r') => Chunk::LastLf,
            (Chunk::LastLf, b'\n') => Chunk::Done,
            (Chunk::TrailerName, b':') => Chunk::TrailerValue,
            (Chunk::TrailerStart | Chunk::TrailerName, byte) if is_token(byte) => {
                self.spend(MAX_TRAILERS)?;
                Chunk::TrailerName
            }
            (Chunk::TrailerValue, b'\r') => Chunk::TrailerLf,
            (Chunk::TrailerValue, byte) if is_text(byte) => {
                self.spend(MAX_TRAILERS)?;
                Chunk::TrailerValue
            }
            (Chunk::TrailerLf, b'\n') => Chunk::TrailerStart,
            _ => return Err(ChunkError),
        })
    }

    fn spend(&mut self, limit: usize) -> Result<(), ChunkError> {
        self.extra += 1;
        if self.extra > limit { Err(ChunkError) } else { Ok(()) }
    }
}

/// What may stand in extensions and in values of fields.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

/// What may stand in names of fields (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::{Body, ChunkError, MAX_TRAILERS};

    /// How many bytes belong to the body, and whether it is complete.
    fn take(mut body: Body, input: &[u8], cuts: &[u8]) -> Result<(usize, bool), ChunkError> {
        let (mut position, mut cuts) = (0, cuts.iter());
        while position < input.len() && !body.is_complete() {
            let length = cuts.next().map_or(1, |cut| usize::from(*cut));
            let end = (position + length).min(input.len());
            position += body.take(&input[position..end])?;
        }
        Ok((position, body.is_complete()))
    }

    #[test]
    fn a_length_counts_down() {
        assert_eq!(take(Body::Length(3), b"abcdef", &[2]), Ok((3, true)));
        assert_eq!(take(Body::Length(u64::MAX), b"abcdef", &[255]), Ok((6, false)));
        assert!(Body::NONE.is_complete());
        assert_eq!(take(Body::UntilClose, b"abc", &[255]), Ok((3, false)));
    }

    #[test]
    fn chunks_end_with_their_trailers() {
        for body in [
            "0\r\n\r\n",
            "3\r\nabc\r\n00\r\n\r\n",
            "a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
            "1;name=\"va;lue\";b\r\nx\r\n0;last\r\n\r\n",
            "1\r\nx\r\n0\r\nDigest: a, b\r\nX-Empty:\r\n\r\n",
            "000000000000000A\r\n0123456789\r\n0\r\n\r\n",
        ] {
            let input = format!("{body}GET / HTTP/1.1\r\n");
            assert_eq!(take(Body::chunked(false), input.as_bytes(), &[]), Ok((body.len(), true)), "{body:?}");
            let partial = &body.as_bytes()[..body.len() - 1];
            assert_eq!(take(Body::chunked(false), partial, &[255]), Ok((partial.len(), false)), "{body:?}");
        }
    }

    #[test]
    fn what_others_may_understand_otherwise_is_refused() {
        for body in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\n",
            "1\rx",
            "1;a\nx",
            "1;\x01\r\n",
            "1\r\nxx",
            "1\r\nx\n",
            "1\r\nx\r0",
            "10000000000000000\r\n",
            "0\r\n\n",
            "0\r\n folded\r\n",
            "0\r\nname : value\r\n",
            "0\r\nname\r\n",
            "0\r\nname: a\nb",
            "0\r\n\rx",
        ] {
            assert_eq!(take(Body::chunked(false), body.as_bytes(), &[]), Err(ChunkError), "{body:?}");
        }
        assert_eq!(take(Body::chunked(true), b"1  \r\nx\r\n0\t\r\n\r\n", &[]), Ok((14, true)));
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extension = format!("1;{}", "x".repeat(5000));
        assert_eq!(take(Body::chunked(false), extension.as_bytes(), &[255]), Err(ChunkError));
        let trailers = format!("0\r\n{}", "n: v\r\n".repeat(MAX_TRAILERS / 2));
        assert_eq!(take(Body::chunked(false), trailers.as_bytes(), &[255]), Err(ChunkError));
    }

    quickcheck! {
        fn cuts_make_no_difference(input: Vec<u8>, cuts: Vec<u8>, lenient: bool) -> bool {
            let input: Vec<u8> = input.iter().map(|byte| b"01a\r\n;: "[usize::from(byte % 8)]).collect();
            let body = || Body::chunked(lenient);
            let cuts: Vec<u8> = cuts.iter().map(|cut| cut % 8 + 1).collect();
            take(body(), &input, &cuts) == take(body(), &input, &[])
        }

        fn encoded_chunks_are_found_whole(chunks: Vec<Vec<u8>>, behind: Vec<u8>, cuts: Vec<u8>) -> bool {
            let mut input = Vec::new();
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                input.extend(format!("{:x}\r\n", chunk.len()).bytes());
                input.extend(chunk);
                input.extend(b"\r\n");
            }
            input.extend(b"0\r\n\r\n");
            let length = input.len();
            input.extend(behind);
            let cuts: Vec<u8> = cuts.iter().map(|cut| cut % 8 + 1).collect();
            take(Body::chunked(false), &input, &cuts) == Ok((length, true))
        }
    }
}
