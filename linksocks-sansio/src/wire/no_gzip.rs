//! What stands for the module `gzip` without the feature: nothing can be inflated, nothing shrinks.

#![expect(clippy::needless_pass_by_ref_mut, reason = "the real ones change")]

use bytes::Bytes;

/// Payloads that the other side should not have sent.
#[derive(Debug)]
pub(crate) struct Inflate;

/// There is no gzip.
#[derive(Debug)]
pub(crate) struct GzipError;

impl Inflate {
    pub(crate) fn new(_payload: Bytes, _cap: usize) -> Self {
        Self
    }

    pub(crate) fn next_chunk(&mut self, _max: usize) -> Result<Option<Bytes>, GzipError> {
        Err(GzipError)
    }
}

/// Finds every payload too large.
#[derive(Debug, Default)]
pub(crate) struct Deflate;

impl Deflate {
    pub(crate) fn compress<'a>(
        &mut self,
        _parts: impl IntoIterator<Item = &'a [u8]>,
        _max: usize,
    ) -> Option<&[u8]> {
        None
    }
}
