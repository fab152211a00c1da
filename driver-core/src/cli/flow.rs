//! Flags about how bytes become messages, of clients and servers alike.

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use linksocks_sansio::config::{BatchDelay, BatchingMode, CompressionConfig, Limits, RelayConfig};

use super::args::OTHER_FLAGS;
use super::duration;

#[derive(Debug, Args)]
#[command(next_help_heading = OTHER_FLAGS)]
pub(super) struct FlowArgs {
    /// Largest read from a connection, and largest batch, in bytes
    #[arg(short, long, default_value = "1048576", value_name = "BYTES", value_parser = buffer_size)]
    buffer_size: usize,

    /// Which bytes may wait for more to share a message: none (off), those that the link can't take
    /// anyway (adaptive), those of busy connections, as in the Go program (literal)
    #[arg(long, default_value = "adaptive", value_name = "MODE", hide_possible_values = true)]
    batching: Batching,

    /// How long they may wait
    #[arg(long, default_value = "20ms..500ms", value_name = "MIN..MAX", value_parser = batch_delay)]
    batch_delay: BatchDelay,

    /// Compress payloads of at least so many bytes, if they shrink; 0 or off = none [default: 524288,
    /// and only on slow links]
    #[arg(long, value_name = "BYTES", value_parser = compression)]
    compression_threshold: Option<CompressionConfig>,

    /// Memory that the process may use, such as 64MiB: queues, channels and links are limited to it
    /// [default: as much as 1 GiB of queues needs]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory_limit: Option<ByteSize>,
}

/// Less is not enough for a few channels at a time.
const LEAST_MEMORY: ByteSize = ByteSize::mib(16);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Batching {
    Off,
    Adaptive,
    Literal,
}

impl FlowArgs {
    pub(super) fn apply(&self, relay: &mut RelayConfig) {
        relay.batching.mode = match self.batching {
            Batching::Off => BatchingMode::Off,
            Batching::Adaptive => BatchingMode::Adaptive,
            Batching::Literal => BatchingMode::Literal,
        };
        relay.batching.delay = self.batch_delay;
        relay.batching.buffer_size = self.buffer_size;
        if let Some(compression) = self.compression_threshold {
            relay.compression = compression;
        }
        if let Some(memory) = self.memory_limit {
            relay.limits = Limits::for_memory(usize::try_from(memory.as_u64()).unwrap_or(usize::MAX));
        }
    }
}

fn buffer_size(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|size| *size > 0).ok_or("expected a positive number of bytes")
}

fn batch_delay(text: &str) -> Result<BatchDelay, &'static str> {
    let (min, max) = text.split_once("..").ok_or("expected two durations, such as 20ms..500ms")?;
    let (min, max) = (duration::parse(min)?, duration::parse(max)?);
    if min > max {
        return Err("the first duration is the shorter one");
    }
    Ok(BatchDelay::new(min, max))
}

fn memory(text: &str) -> Result<ByteSize, &'static str> {
    let size: ByteSize = text.parse().map_err(|_| "expected a size such as 64MiB")?;
    if size < LEAST_MEMORY { Err("expected at least 16MiB") } else { Ok(size) }
}

/// Whoever names a threshold wants it to hold on any link.
fn compression(text: &str) -> Result<CompressionConfig, &'static str> {
    let mut config = CompressionConfig::off();
    if text != "off" {
        config.threshold = text.parse().map_err(|_| "expected a number of bytes or off")?;
        config.always = config.threshold > 0;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use linksocks_sansio::config::{
        BatchDelay, BatchingConfig, BatchingMode, CompressionConfig, RelayConfig,
    };

    use super::FlowArgs;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flow: FlowArgs,
    }

    fn config(flags: &str) -> Result<RelayConfig, String> {
        let words = std::iter::once("x").chain(flags.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let mut relay = RelayConfig::default();
        line.flow.apply(&mut relay);
        Ok(relay)
    }

    #[test]
    fn the_defaults_are_those_of_the_engine() {
        let relay = config("").unwrap();
        assert_eq!(relay.batching, BatchingConfig::default());
        assert_eq!(relay.compression, CompressionConfig::default());
    }

    #[test]
    fn flags_become_a_configuration() {
        let relay = config("-b 4096 --batching literal --batch-delay 5ms..1.5s").unwrap();
        assert_eq!((relay.batching.buffer_size, relay.batching.mode), (4096, BatchingMode::Literal));
        let delay = BatchDelay::new(Duration::from_millis(5), Duration::from_millis(1500));
        assert_eq!(relay.batching.delay, delay);
        assert_eq!(config("--batching=off").unwrap().batching.mode, BatchingMode::Off);
        for (flags, threshold, always) in [
            ("--compression-threshold 65536", 65536, true),
            ("--compression-threshold=0", 0, false),
            ("--compression-threshold off", 0, false),
        ] {
            let compression = config(flags).unwrap().compression;
            assert_eq!((compression.threshold, compression.always), (threshold, always), "{flags}");
        }
        assert_eq!(config("--memory-limit 64MiB").unwrap().limits.memory, 32 << 20);
    }

    #[test]
    fn unusable_values_are_explained() {
        for (flags, part) in [
            ("-b 0", "positive number"),
            ("-b x", "positive number"),
            ("--batching maybe", "maybe"),
            ("--batch-delay 20ms", "two durations"),
            ("--batch-delay 20..500", "expected a duration"),
            ("--batch-delay 2s..1s", "shorter one"),
            ("--compression-threshold -1", "-1"),
            ("--compression-threshold 1k", "number of bytes or off"),
            ("--memory-limit much", "a size such as"),
            ("--memory-limit 64", "at least 16MiB"),
        ] {
            let error = config(flags).unwrap_err();
            assert!(error.contains(part), "{flags}: {error}");
        }
    }
}
