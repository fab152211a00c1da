//! Flags about how long things may take, of clients and servers alike.

use std::time::Duration;

use clap::Args;
use linksocks_sansio::config::Timeouts;

use super::args::OTHER_FLAGS;
use super::duration;

#[derive(Debug, Args)]
#[command(next_help_heading = OTHER_FLAGS)]
pub(super) struct TimeoutArgs {
    /// How long connecting may take, to a target or to the server; whoever waits for the other side
    /// to do it waits 5s longer
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration::parse_positive)]
    connect_timeout: Duration,

    /// End a connection or UDP association after so long without a byte in either direction; 0 = never
    #[arg(long, default_value = "12h", value_name = "DURATION", value_parser = duration::parse)]
    channel_timeout: Duration,

    /// End a UDP association after so long without a datagram
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = duration::parse)]
    udp_idle: Duration,

    /// How long the streams of a lost connection wait for it to come back; 0 ends them at once
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration::parse)]
    transport_grace: Duration,
}

impl TimeoutArgs {
    pub(super) const fn apply(&self, timeouts: &mut Timeouts) {
        timeouts.set_connect_timeout(self.connect_timeout);
        timeouts.channel_idle = self.channel_timeout;
        timeouts.udp_idle = self.udp_idle;
        timeouts.transport_grace = self.transport_grace;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use linksocks_sansio::config::Timeouts;

    use super::TimeoutArgs;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        timeouts: TimeoutArgs,
    }

    fn timeouts(flags: &str) -> Result<Timeouts, String> {
        let words = std::iter::once("x").chain(flags.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let mut timeouts = Timeouts::default();
        line.timeouts.apply(&mut timeouts);
        Ok(timeouts)
    }

    #[test]
    fn the_defaults_are_those_of_the_engine() {
        let (given, default) = (timeouts("").unwrap(), Timeouts::default());
        assert_eq!((given.dial, given.response), (default.dial, default.response));
        assert_eq!(given.channel_idle, default.channel_idle);
        assert_eq!(given.udp_idle, default.udp_idle);
        assert_eq!(given.transport_grace, default.transport_grace);
    }

    #[test]
    fn flags_become_timeouts() {
        let given = timeouts("--connect-timeout 1.5s --channel-timeout=1h30m").unwrap();
        assert_eq!((given.dial, given.response), (Duration::from_millis(1500), Duration::from_millis(6500)));
        assert_eq!(given.channel_idle, Duration::from_secs(5400));
        let given = timeouts("--udp-idle 90s --transport-grace=1m30s").unwrap();
        assert_eq!(
            (given.udp_idle, given.transport_grace),
            (Duration::from_secs(90), Duration::from_secs(90))
        );
        assert_eq!(timeouts("--channel-timeout 0").unwrap().channel_idle, Duration::ZERO);
        assert_eq!(timeouts("--transport-grace 0").unwrap().transport_grace, Duration::ZERO);
        assert!(timeouts("--connect-timeout 0").unwrap_err().contains("more than no time"));
        assert!(timeouts("--channel-timeout 5").unwrap_err().contains("30s, 1.5s or 1h30m"));
    }
}
