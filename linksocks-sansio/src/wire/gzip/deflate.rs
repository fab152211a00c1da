//! Makes gzip payloads.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress, Status};

/// The largest window, as every decoder supports it.
const WINDOW_BITS: u8 = 15;

/// Compresses payloads, each to one gzip member, at the fastest level. Its memory (about 300 KiB)
/// is used again for each.
pub struct Deflate {
    state: Compress,
    output: Vec<u8>,
}

impl Default for Deflate {
    fn default() -> Self {
        Self { state: Compress::new_gzip(Compression::fast(), WINDOW_BITS), output: Vec::new() }
    }
}

impl Deflate {
    /// Compresses the concatenation of `parts`; the result lasts until the next call. `None` if it has more
    /// than `max` bytes; the work ends as soon as that is known.
    pub fn compress<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>, max: usize) -> Option<&[u8]> {
        self.state.reset();
        self.output.clear();
        self.output.reserve_exact(max);
        let mut room = max;
        for part in parts {
            self.step(part, &mut room, FlushCompress::None)?;
        }
        self.step(&[], &mut room, FlushCompress::Finish)?;
        Some(&self.output)
    }

    /// `None` if there is no room for all output.
    fn step(&mut self, mut input: &[u8], room: &mut usize, flush: FlushCompress) -> Option<()> {
        loop {
            let before = (self.state.total_in(), self.state.total_out());
            // `compress_vec` fills the spare capacity, which may be more than was asked for.
            let status = self.state.compress_vec(input, &mut self.output, flush).ok()?;
            let taken = self.state.total_in() - before.0;
            let made = self.state.total_out() - before.1;
            input = &input[usize::try_from(taken).ok()?..];
            *room = room.checked_sub(usize::try_from(made).ok()?)?;
            match (flush, status) {
                (_, Status::StreamEnd) => return Some(()),
                (FlushCompress::None, _) if input.is_empty() => return Some(()),
                _ if self.output.len() == self.output.capacity() => return None,
                _ if taken == 0 && made == 0 => return None,
                _ => {}
            }
        }
    }
}

impl fmt::Debug for Deflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Deflate;
    use crate::wire::gzip::Inflate;
    use bytes::Bytes;
    use quickcheck::quickcheck;

    fn inflate(payload: &[u8]) -> Vec<u8> {
        let mut inflate = Inflate::new(Bytes::copy_from_slice(payload), usize::MAX);
        let mut all = Vec::new();
        while let Some(chunk) = inflate.next_chunk(64 << 10).unwrap() {
            all.extend_from_slice(&chunk);
        }
        all
    }

    quickcheck! {
        fn what_is_compressed_in_parts_inflates_to_the_whole(parts: Vec<Vec<u8>>, again: Vec<u8>) -> bool {
            let mut deflate = Deflate::default();
            let whole = inflate(deflate.compress(parts.iter().map(Vec::as_slice), 1 << 20).unwrap());
            // The memory is used again, and remembers nothing.
            let next = inflate(deflate.compress([&again[..]], 1 << 20).unwrap());
            let fresh = Deflate::default().compress([&again[..]], 1 << 20).unwrap().to_vec();
            whole == parts.concat() && next == again
                && deflate.compress([&again[..]], 1 << 20).unwrap() == fresh
        }

        fn the_limit_is_kept_to_the_byte(data: Vec<u8>) -> bool {
            let mut deflate = Deflate::default();
            let length = deflate.compress([&data[..]], 1 << 20).unwrap().len();
            deflate.compress([&data[..]], length).is_some() && deflate.compress([&data[..]], length - 1).is_none()
        }
    }

    #[test]
    fn large_payloads_shrink_and_come_back() {
        let text = b"GET /index.html HTTP/1.1\r\nHost: example.com\r\n\r\n".repeat(20_000);
        let mut deflate = Deflate::default();
        let compressed = deflate.compress(text.chunks(50_000), text.len() / 20).unwrap();
        assert_eq!(inflate(compressed), text);
        assert!(deflate.compress([&text[..]], 1000).is_none());
    }
}
