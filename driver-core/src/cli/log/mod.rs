//! Log lines as the Go program writes them: `TIME LVL message key=value`.

mod lossy;

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{ChronoLocal, FormatTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::lossy::Flush;
use super::parse::Environment;

/// The target of errors that end the program: their level is written `FTL`.
pub(super) const FATAL: &str = "linksocks::fatal";

/// What the lines of this project begin their targets with; libraries are left out.
const OUR_TARGETS: [&str; 3] = ["linksocks", "driver_core", "driver_tokio"];

/// The level for so many `-d` flags.
pub(super) fn level(verbosity: u8, default: LevelFilter) -> LevelFilter {
    match verbosity {
        0 => default,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

/// Logs to standard output until this is dropped.
#[derive(Debug)]
pub(super) struct Logging(#[expect(dead_code, reason = "its end is what counts")] Flush);

/// Starts logging to standard output, which never makes the program wait. A program that has its own
/// subscriber already keeps it.
///
/// # Errors
/// There can't be a thread that writes.
pub(super) fn init(level: LevelFilter, environment: &Environment) -> io::Result<Logging> {
    let colour = environment.get("NO_COLOR").is_none() && io::stdout().is_terminal();
    let style = if colour { Style::Ansi } else { Style::Plain };
    let timer = ChronoLocal::new("%Y-%m-%dT%H:%M:%S%:z".to_owned());
    let clock = timer.clone();
    let lost = move |lines: usize| {
        let text = format!("Log lines were lost, for nobody read them lines={lines}");
        let mut line = String::new();
        // Writing to a String can't fail.
        let _ = write_line(&mut line, style, &clock, ("WRN", YELLOW), &text);
        line
    };
    let (writer, flush) = lossy::start(io::stdout(), lost)?;
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(colour)
        .log_internal_errors(false)
        .event_format(ConsoleFormat { timer })
        .with_writer(writer);
    let filter = Targets::new().with_targets(OUR_TARGETS.map(|target| (target, level)));
    // Fails only if there is a subscriber already.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Ok(Logging(flush))
}

/// The line format of zerolog's console writer.
struct ConsoleFormat<T> {
    timer: T,
}

impl<S, N, T> FormatEvent<S, N> for ConsoleFormat<T>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    T: FormatTime,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let style = if writer.has_ansi_escapes() { Style::Ansi } else { Style::Plain };
        let (level, colour) = match *event.metadata().level() {
            _ if event.metadata().target() == FATAL => ("FTL", RED),
            Level::ERROR => ("ERR", RED),
            Level::WARN => ("WRN", YELLOW),
            Level::INFO => ("INF", GREEN),
            Level::DEBUG => ("DBG", BLUE),
            Level::TRACE => ("TRC", BLUE),
        };
        let mut line = Line { style, message: String::new(), fields: String::new() };
        event.record(&mut line);
        let text = line.message + &line.fields;
        write_line(&mut writer, style, &self.timer, (level, colour), &text)
    }
}

fn write_line(
    out: &mut dyn fmt::Write,
    style: Style,
    timer: &impl FormatTime,
    (level, colour): (&str, u8),
    text: &str,
) -> fmt::Result {
    let mut time = String::new();
    timer.format_time(&mut Writer::new(&mut time))?;
    style.paint(out, GREY, &time)?;
    out.write_char(' ')?;
    style.paint(out, colour, level)?;
    writeln!(out, " {text}")
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const BLUE: u8 = 34;
const CYAN: u8 = 36;
const GREY: u8 = 90;

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Ansi,
}

impl Style {
    fn paint(self, out: &mut dyn fmt::Write, colour: u8, text: &str) -> fmt::Result {
        match self {
            Self::Plain => out.write_str(text),
            Self::Ansi => write!(out, "\x1b[{colour}m{text}\x1b[0m"),
        }
    }
}

/// Collects message and fields of an event.
struct Line {
    style: Style,
    message: String,
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            push_printable(&mut self.message, value);
            return;
        }
        self.fields.push(' ');
        // Writing to a String can't fail.
        let _ = self.style.paint(&mut self.fields, CYAN, &format!("{}=", field.name()));
        if value.chars().any(|c| c.is_whitespace() || is_hidden(c) || matches!(c, '"' | '\\')) {
            let _ = write!(self.fields, "{value:?}");
        } else {
            self.fields.push_str(value);
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// Appends `text` with its hidden characters escaped: parts of it may come from a peer, who must not be
/// able to write lines of its own, to control the terminal, or to show something else than there is.
fn push_printable(out: &mut String, text: &str) {
    for c in text.chars() {
        if is_hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

/// Whether a character shows nothing of itself, but changes how others are shown: control characters, ends of
/// lines, direction of writing, joiners.
fn is_hidden(c: char) -> bool {
    !matches!(c, '"' | '\'' | '\\') && c.escape_debug().len() > 1
}

/// A duration as Go writes it: `312µs`, `300ms`, `1.5s`, `1m30s`, `2h0m0s`; exact to a millisecond,
/// below that to a microsecond.
pub(super) struct GoDuration(pub(super) Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_nanos().saturating_add(500) / 1000;
        let millis = micros.saturating_add(500) / 1000;
        if micros == 0 {
            return f.write_str("0s");
        } else if micros < 1000 {
            return write!(f, "{micros}µs");
        } else if millis < 1000 {
            return write!(f, "{millis}ms");
        }
        let (seconds, millis) = (millis / 1000, millis % 1000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        let fraction = format!(".{millis:03}");
        write!(f, "{seconds}{}s", fraction.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{ConsoleFormat, FATAL, GoDuration};

    /// What `log` writes, without times.
    fn lines(colour: bool, log: impl FnOnce()) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&written);
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(colour)
            .event_format(ConsoleFormat { timer: () })
            .with_writer(move || Shared(Arc::clone(&writer)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        String::from_utf8(written.lock().unwrap().clone()).unwrap()
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_level_message_and_fields() {
        let text = lines(false, || {
            tracing::info!(listen = "0.0.0.0:8765", count = 3, "LinkSocks server started");
            tracing::warn!(error = %"closed by the peer", "Connection error");
            tracing::error!("Authentication failed");
            tracing::error!(target: FATAL, "Exit due to error");
            tracing::debug!("d");
            tracing::trace!("t");
        });
        let expected = " INF LinkSocks server started listen=0.0.0.0:8765 count=3
 WRN Connection error error=\"closed by the peer\"
 ERR Authentication failed
 FTL Exit due to error
 DBG d
 TRC t
";
        assert_eq!(text, expected);
    }

    #[test]
    fn colours_are_only_there_when_asked_for() {
        let log = || tracing::info!(a = 1, "text");
        assert_eq!(lines(true, log), "\x1b[90m\x1b[0m \x1b[32mINF\x1b[0m text \x1b[36ma=\x1b[0m1\n");
        assert_eq!(lines(false, log), " INF text a=1\n");
    }

    #[test]
    fn a_peer_can_neither_break_lines_nor_send_escape_codes() {
        let evil = "x\n2026 INF Authentication successful\x1b[2J\u{9b}";
        let text = lines(false, || tracing::info!(error = evil, "failed: {evil}"));
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(text.trim_end().chars().all(|c| !c.is_control()), "{text:?}");
    }

    #[test]
    fn a_peer_can_not_show_something_else_than_it_says() {
        // Right to left, a line separator, a zero width space.
        for evil in ["txt.\u{202e}exe", "a\u{2028}b", "a\u{200b}b"] {
            let text = lines(false, || tracing::info!(error = evil, "failed: {evil}"));
            assert!(text.is_ascii(), "{text:?}");
        }
        let text = lines(false, || tracing::info!(name = "Zoë", "it's \"Zoë\""));
        assert_eq!(text, " INF it's \"Zoë\" name=Zoë\n");
    }

    #[test]
    fn durations_look_like_go() {
        for (micros, text) in [
            (0, "0s"),
            (312, "312µs"),
            (1_000, "1ms"),
            (1_499, "1ms"),
            (300_000, "300ms"),
            (999_999, "1s"),
            (1_000_000, "1s"),
            (1_500_000, "1.5s"),
            (1_137_400, "1.137s"),
            (60_000_000, "1m0s"),
            (90_050_000, "1m30.05s"),
            (7_200_000_000, "2h0m0s"),
        ] {
            assert_eq!(GoDuration(Duration::from_micros(micros)).to_string(), text);
        }
    }
}
