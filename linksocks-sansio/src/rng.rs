//! The only randomness of an engine: a CSPRNG seeded by the driver.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use uuid::Builder;

use crate::ids::{ChannelId, InstanceId};

/// Makes channel ids, the instance id and jitter.
#[derive(Clone, Debug)]
pub(crate) struct EngineRng(ChaCha12Rng);

impl EngineRng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// Random bytes.
    pub(crate) fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A random (version 4) UUID.
    pub(crate) fn channel_id(&mut self) -> ChannelId {
        ChannelId(*Builder::from_random_bytes(self.bytes()).as_uuid().as_bytes())
    }

    /// A random (version 4) UUID.
    pub(crate) fn instance_id(&mut self) -> InstanceId {
        InstanceId(Builder::from_random_bytes(self.bytes()).into_uuid())
    }

    /// A number below `count`, which is not 0. Not quite uniform, which does not matter here.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0.next_u32() as usize % count.max(1)
    }

    /// A number in `-1.0..1.0`.
    pub(crate) fn signed_unit(&mut self) -> f64 {
        f64::from(self.0.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0
    }
}
