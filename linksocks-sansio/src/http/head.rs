//! The head of a message: start line and header fields, up to the empty line.

use thiserror::Error;

/// The longest head that is taken, in bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// The most header fields of a head.
pub(super) const MAX_FIELDS: usize = 256;

/// How lines may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnds {
    /// By CRLF only. What a client sends must mean the same to us and to the target.
    Strict,
    /// By a bare LF, too, as some servers do it (RFC 9112 section 2.2).
    Lenient,
}

/// Collects the bytes of a head. Each byte is looked at once, however they are cut.
#[derive(Debug)]
pub(super) struct HeadBuffer {
    bytes: Vec<u8>,
    line_ends: LineEnds,
    /// Bytes dropped in front of the head.
    skipped: usize,
    line: Line,
}

/// How the current line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Nothing has come.
    Empty,
    /// Something has come.
    Begun,
    /// A CR has come; `true` if nothing else has.
    Ending(bool),
}

/// A head that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum HeadError {
    #[error("the head is longer than {} KiB", MAX_HEAD / 1024)]
    TooLong,
    #[error("a line of the head does not end in CRLF")]
    LineEnd,
}

impl HeadBuffer {
    pub(super) fn new(line_ends: LineEnds) -> Self {
        Self { bytes: Vec::new(), line_ends, skipped: 0, line: Line::Empty }
    }

    /// Whether nothing of a head has come; empty lines before it don't count (RFC 9112 section 2.2).
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes bytes up to the end of the head: how many, and the head if that was its end.
    pub(super) fn push(&mut self, input: &[u8]) -> Result<(usize, Option<Vec<u8>>), HeadError> {
        for (index, byte) in input.iter().enumerate() {
            if self.bytes.len() + self.skipped >= MAX_HEAD {
                return Err(HeadError::TooLong);
            }
            self.bytes.push(*byte);
            let empty = match (self.line, byte) {
                (Line::Ending(empty), b'\n') => empty,
                (Line::Ending(_), _) => return Err(HeadError::LineEnd),
                (_, b'\n') if self.line_ends == LineEnds::Strict => return Err(HeadError::LineEnd),
                (line, b'\n') => line == Line::Empty,
                (line, b'\r') => {
                    self.line = Line::Ending(line == Line::Empty);
                    continue;
                }
                (_, _) => {
                    self.line = Line::Begun;
                    continue;
                }
            };
            self.line = Line::Empty;
            if !empty {
                continue;
            }
            let head = std::mem::take(&mut self.bytes);
            if head.len() > 2 {
                self.skipped = 0;
                return Ok((index + 1, Some(head)));
            }
            self.skipped += head.len();
        }
        Ok((input.len(), None))
    }

    /// How many bytes must come at least until the head ends.
    pub(super) fn needed(&self) -> usize {
        match self.line {
            Line::Empty if self.bytes.is_empty() => 3,
            Line::Ending(true) if self.bytes.len() == 1 => 4,
            // The empty line.
            Line::Empty | Line::Ending(true) => 1,
            // The end of this one, and the empty line.
            Line::Begun | Line::Ending(false) => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::{HeadBuffer, HeadError, LineEnds, MAX_HEAD};

    fn collect(
        line_ends: LineEnds,
        input: &[u8],
        cuts: &[u8],
    ) -> Result<(usize, Option<Vec<u8>>), HeadError> {
        let mut buffer = HeadBuffer::new(line_ends);
        let (mut position, mut cuts) = (0, cuts.iter());
        loop {
            let length = cuts.next().map_or(1, |cut| usize::from(*cut));
            let end = (position + length).min(input.len());
            let (taken, head) = buffer.push(&input[position..end])?;
            position += taken;
            if head.is_some() || position == input.len() {
                return Ok((position, head));
            }
        }
    }

    #[test]
    fn the_head_ends_with_the_empty_line() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let input = [b"\r\n\r\n", &head[..], b"body"].concat();
        assert_eq!(collect(LineEnds::Strict, &input, &[255]), Ok((input.len() - 4, Some(head.to_vec()))));
        assert_eq!(collect(LineEnds::Strict, b"GET / HTTP/1.1\r\n\r", &[]), Ok((17, None)));
    }

    #[test]
    fn bare_line_feeds_are_for_answers_only() {
        for input in [&b"a\n\n"[..], b"\na\n\n", b"a\r\n\n", b"a\n\r\n"] {
            assert_eq!(collect(LineEnds::Strict, input, &[]), Err(HeadError::LineEnd), "{input:?}");
            assert!(collect(LineEnds::Lenient, input, &[]).unwrap().1.is_some(), "{input:?}");
        }
        for input in [&b"a\rb\r\n\r\n"[..], b"\ra", b"a\r\r\n"] {
            assert_eq!(collect(LineEnds::Strict, input, &[]), Err(HeadError::LineEnd), "{input:?}");
            assert_eq!(collect(LineEnds::Lenient, input, &[]), Err(HeadError::LineEnd), "{input:?}");
        }
    }

    #[test]
    fn the_length_is_bounded() {
        let mut head = vec![b'x'; MAX_HEAD - 4];
        head.extend_from_slice(b"\r\n\r\n");
        assert!(collect(LineEnds::Strict, &head, &[]).unwrap().1.is_some());
        head.insert(0, b'x');
        assert_eq!(collect(LineEnds::Strict, &head, &[]), Err(HeadError::TooLong));
        let empty_lines = b"\r\n".repeat(MAX_HEAD);
        assert_eq!(collect(LineEnds::Strict, &empty_lines, &[]), Err(HeadError::TooLong));
    }

    quickcheck! {
        fn cuts_make_no_difference(input: Vec<u8>, cuts: Vec<u8>, strict: bool) -> bool {
            // Few letters, so that line ends are frequent.
            let input: Vec<u8> = input.iter().map(|byte| b"ab\r\n\r\n\n"[usize::from(byte % 7)]).collect();
            let line_ends = if strict { LineEnds::Strict } else { LineEnds::Lenient };
            collect(line_ends, &input, &cuts) == collect(line_ends, &input, &[])
        }

        fn reading_what_is_needed_never_reads_beyond_the_head(input: Vec<u8>) -> bool {
            let mut input: Vec<u8> = input.iter().map(|byte| b"ab\r\n\n"[usize::from(byte % 5)]).collect();
            input.extend_from_slice(b"a\r\n\r\n");
            let Ok((length, Some(_))) = collect(LineEnds::Lenient, &input, &[255]) else { return true };
            let (mut buffer, mut position) = (HeadBuffer::new(LineEnds::Lenient), 0);
            loop {
                let end = position + buffer.needed();
                if end > length {
                    return false;
                }
                let (taken, head) = buffer.push(&input[position..end]).unwrap();
                position += taken;
                if head.is_some() {
                    return position == length;
                }
            }
        }
    }
}
