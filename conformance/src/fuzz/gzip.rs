//! Gzip payloads.

use bytes::Bytes;
use linksocks_sansio::wire::gzip::{Deflate, GzipError, Inflate};

use super::split_first;

/// At most so many steps, more or less, are made for one payload.
const MOST_STEPS: usize = 300;

/// More than any payload here inflates to.
const NO_CAP: usize = 64 << 20;

/// The first byte says what the rest is: a payload, or what is compressed to one, which is then cut short,
/// changed, or left as it is. The second one says how much may come out.
///
/// # Panics
/// If more comes out than may, or if it depends on the steps; if what was compressed does not come back.
pub fn gzip(data: &[u8]) {
    let (mode, data) = split_first(data);
    let (cap, data) = split_first(data);
    let cap = usize::from(cap) * usize::from(cap);
    if mode % 4 == 0 {
        let _ = check_inflating(data, cap).1;
        return;
    }
    let payload = check_compressing(data, cap);
    // Somewhere in it, or nowhere.
    let place = usize::from(mode) * payload.len() / 256;
    match mode % 4 {
        1 => {
            let (_, end) = check_inflating(&payload[..place], NO_CAP);
            assert_eq!(end, Err(GzipError::Truncated));
        }
        2 => {
            let mut payload = payload;
            payload[place] ^= 1 << (cap % 8);
            let _ = check_inflating(&payload, cap).1;
        }
        _ => {}
    }
}

/// Compresses and inflates; returns the payload.
fn check_compressing(data: &[u8], cap: usize) -> Vec<u8> {
    let mut deflate = Deflate::default();
    let payload = deflate.compress(data.chunks(11), NO_CAP / 64).expect("there is room for it").to_vec();
    assert!(deflate.compress([data], payload.len() / 2).is_none_or(|less| less.len() <= payload.len() / 2));
    let (inflated, end) = check_inflating(&payload, cap);
    if data.len() <= cap {
        assert_eq!((&inflated[..], end), (data, Ok(())));
    } else {
        assert_eq!(end, Err(GzipError::TooLarge { cap }));
        assert!(data.starts_with(&inflated));
    }
    payload
}

/// Inflates in steps of all sizes; returns what came out in the largest, and how it ended.
fn check_inflating(payload: &[u8], cap: usize) -> (Vec<u8>, Result<(), GzipError>) {
    let payload = Bytes::copy_from_slice(payload);
    let least = 1 + cap.min(1 << 20) / MOST_STEPS;
    let [first, others @ ..] = [1 << 20, least, 5 * least].map(|step| inflate(payload.clone(), cap, step));
    for other in others {
        // A step that fails gives nothing out, however much it may have.
        assert_eq!(first.1, other.1, "the steps decide how it ends");
        assert!(
            first.0.starts_with(&other.0) || other.0.starts_with(&first.0),
            "the steps decide what it is"
        );
        assert!(first.1.is_err() || first.0 == other.0, "the steps decide how much it is");
    }
    first
}

fn inflate(payload: Bytes, cap: usize, step: usize) -> (Vec<u8>, Result<(), GzipError>) {
    let mut inflate = Inflate::new(payload, cap);
    let mut inflated = Vec::new();
    let end = loop {
        match inflate.next_chunk(step) {
            Ok(Some(chunk)) => {
                assert!(chunk.len() <= step, "a step is no longer than it may be");
                inflated.extend_from_slice(&chunk);
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(inflated.len() <= cap, "no more comes out than may");
    assert_eq!(inflate.next_chunk(step).map(|_| ()), end, "the end is the end");
    (inflated, end)
}
