//! Logs: `tracing` events to stderr, as text for people or JSON for machines.
//!
//! At error, warn and info openraft is silent: its warnings describe its insides, and what an operator can act on is
//! logged by hraftd in its own words. `debug` shows openraft at info, `trace` shows everything.
//! A panic is logged as one event too, so that stderr stays one format.
//!
//! Nobody waits for a log line: a thread of its own writes to stderr. If the reader of stderr stalls, lines beyond
//! [`MAX_WAITING_LINES`] are dropped and counted, and the count is logged once there is room again.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::exit;
use crate::quote::is_escaped;
use crate::secret::mask;
use crate::seldom::Seldom;

/// The events that are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFilter {
    /// hraftd at this level, its libraries at a fitting one.
    Level(LevelFilter),
    /// Directives in `RUST_LOG`'s syntax, and nothing but them.
    Directives(String),
}

impl LogFilter {
    /// The directives that this filter stands for.
    pub fn directives(&self) -> String {
        match self {
            Self::Directives(directives) => directives.clone(),
            Self::Level(level) => match *level {
                LevelFilter::OFF => "off".to_owned(),
                LevelFilter::ERROR => "error,openraft=off".to_owned(),
                LevelFilter::DEBUG => "warn,hraftd=debug,openraft=info".to_owned(),
                LevelFilter::TRACE => "trace".to_owned(),
                level => format!("warn,hraftd={level},openraft=off"),
            },
        }
    }
}

impl FromStr for LogFilter {
    type Err = String;

    /// A level, or directives. A single word must be a level: as a directive, `inof` would turn everything off but a
    /// target of that name.
    fn from_str(text: &str) -> Result<Self, String> {
        let level = match text.to_ascii_lowercase().as_str() {
            "off" => LevelFilter::OFF,
            "error" => LevelFilter::ERROR,
            "warn" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            _ if text.contains(['=', ',', '[']) => return Self::from_directives(text),
            _ => return Err("not a level: error, warn, info, debug, trace or off".to_owned()),
        };
        Ok(Self::Level(level))
    }
}

impl LogFilter {
    /// Directives as they are, such as `RUST_LOG` has; a single word may be a target.
    ///
    /// # Errors
    /// A text that names the directive that cannot be read.
    pub fn from_directives(text: &str) -> Result<Self, String> {
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Self::Directives(text.to_owned())),
            Err(error) => Err(format!("not a level or log directives: {error}")),
        }
    }
}

/// How a log event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people; coloured on a terminal only.
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The events that are logged.
    pub filter: LogFilter,
    /// The format of a line.
    pub format: LogFormat,
}

/// Lines that wait to be written; more are dropped.
const MAX_WAITING_LINES: usize = 8_192;

/// The end of a process waits this long for the lines that are not written yet.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Dropped lines are looked for at this interval.
const DROPPED_LINES_INTERVAL: Duration = Duration::from_secs(5);

static DROPPED_LINES: OnceLock<ErrorCounter> = OnceLock::new();

/// Replaces the filter of the log.
type SetFilter = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Logs other events from now on. False where this process has no log, as in tests.
pub fn set_filter(filter: &LogFilter) -> bool {
    SET_FILTER.get().is_some_and(|set| set(EnvFilter::new(filter.directives())))
}

/// Log lines that were dropped since the start, because stderr was not read.
pub fn dropped_lines() -> usize {
    DROPPED_LINES.get().map_or(0, ErrorCounter::dropped_lines)
}

/// Logs now and then how many lines were dropped, until the task is aborted.
pub fn report_dropped_lines() -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async {
        let mut told = 0;
        loop {
            tokio::time::sleep(DROPPED_LINES_INTERVAL).await;
            let dropped = dropped_lines();
            if dropped > told {
                tracing::warn!("{} log lines were dropped: stderr was not read in time", dropped - told);
                // Otherwise this line was dropped too.
                if dropped_lines() == dropped {
                    told = dropped;
                }
            }
        }
    }))
}

/// Keeps the log working; its drop writes what is left, within [`FLUSH_TIMEOUT`].
#[derive(Debug)]
pub struct LogGuard(Option<WorkerGuard>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        let guard = self.0.take();
        exit::at_most(FLUSH_TIMEOUT, move || drop(guard));
    }
}

/// A writer of lines that never waits, and what it counts.
fn lossy(writer: impl Write + Send + 'static, max_waiting_lines: usize) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().lossy(true).buffered_lines_limit(max_waiting_lines).thread_name("log").finish(writer)
}

/// Writes lines without the secrets in them. All that is logged goes through this, whatever it is and wherever it is from.
#[derive(Clone)]
struct Masking<W>(W);

impl<W: Write> Write for Masking<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The formatter writes a whole line at a time.
        let text = String::from_utf8_lossy(line);
        match mask(&text) {
            Cow::Borrowed(_) => self.0.write_all(line)?,
            Cow::Owned(masked) => self.0.write_all(masked.as_bytes())?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Installs logging for the process; a second call changes nothing. The log ends with the guard.
pub fn init(settings: &LogSettings) -> LogGuard {
    let (writer, guard) = lossy(io::stderr(), MAX_WAITING_LINES);
    let dropped = writer.error_counter();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(settings.filter.directives()))
        .with_writer({
            let writer = writer.clone();
            move || Masking(writer.clone())
        })
        .with_timer(UtcMillis)
        .with_target(false)
        // It would report a failed write to stderr on stderr, with a macro that then panics.
        .log_internal_errors(false);
    let installed = match settings.format {
        LogFormat::Text => {
            let builder = builder.fmt_fields(debug_fn(write_field).delimited(" "));
            let builder = builder.compact().with_ansi(io::stderr().is_terminal()).with_filter_reloading();
            let handle = builder.reload_handle();
            let set: SetFilter = Box::new(move |filter| handle.reload(filter).is_ok());
            builder.try_init().map(|()| set)
        }
        LogFormat::Json => {
            let builder = builder.with_writer(move || EscapingJson(Masking(writer.clone()))).json();
            let builder = builder.flatten_event(true).with_current_span(false).with_span_list(false);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let set: SetFilter = Box::new(move |filter| handle.reload(filter).is_ok());
            builder.try_init().map(|()| set)
        }
    };
    if let Ok(set) = installed {
        let _first = SET_FILTER.set(set);
        let _first = DROPPED_LINES.set(dropped);
        log_panics();
    }
    LogGuard(Some(guard))
}

/// Writes a field of a text line; texts of others in it can neither begin a line nor steer a terminal.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{field}=")?;
    }
    write!(Escaping(writer), "{value:?}")
}

/// Writes text with its control characters escaped, and those that change the direction of what follows.
struct Escaping<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(is_escaped) {
            let Some(last) = piece.chars().next_back().filter(|last| is_escaped(*last)) else {
                self.0.write_str(piece)?;
                continue;
            };
            self.0.write_str(&piece[..piece.len() - last.len_utf8()])?;
            write!(self.0, "{}", last.escape_default())?;
        }
        Ok(())
    }
}

/// Writes lines of JSON with the characters escaped that JSON itself leaves as they are.
struct EscapingJson<W>(W);

impl<W: Write> Write for EscapingJson<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The formatter writes a whole line at a time. In it only texts have such characters, but for its end.
        let text = String::from_utf8_lossy(line);
        if !text.trim_end_matches('\n').contains(is_escaped) {
            return self.0.write_all(line).map(|()| line.len());
        }
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if is_escaped(c) && c != '\n' {
                // All of them are in the basic plane.
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            } else {
                escaped.push(c);
            }
        }
        self.0.write_all(escaped.as_bytes()).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let why = info.payload_as_str().unwrap_or("no message");
        static LINES: Seldom = Seldom::new();
        // One that a request can cause comes as often as somebody likes.
        if let Some(unsaid) = LINES.turn() {
            tracing::error!(place, "internal error, please report it: {why}{unsaid}");
        }
    }));
}

/// `2026-02-13T15:49:15.123Z`.
struct UtcMillis;

impl FormatTime for UtcMillis {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let mut text = String::with_capacity(32);
        SystemTime.format_time(&mut Writer::new(&mut text))?;
        match text.rsplit_once('.') {
            Some((seconds, fraction)) => write!(writer, "{seconds}.{}Z", fraction.get(..3).unwrap_or("000")),
            None => writer.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[test]
    fn levels_and_directives() {
        for (text, directives) in [
            ("error", "error,openraft=off"),
            ("info", "warn,hraftd=info,openraft=off"),
            ("WARN", "warn,hraftd=warn,openraft=off"),
            ("debug", "warn,hraftd=debug,openraft=info"),
            ("trace", "trace"),
            ("off", "off"),
            ("hraftd=debug,openraft=trace", "hraftd=debug,openraft=trace"),
            ("info,hyper=debug", "info,hyper=debug"),
        ] {
            let filter: LogFilter = text.parse().unwrap();
            assert_eq!(filter.directives(), directives, "{text}");
            assert!(EnvFilter::builder().parse(directives).is_ok(), "{directives}");
        }
        for text in ["", "inof", "hraftd=loud", "a=b=c"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
        assert!(LogFilter::from_directives("some_program").is_ok());
    }

    /// Issue 18, C: a liar's refusal wrote lines of its own into the log.
    #[test]
    fn texts_of_others_stay_on_their_line() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let lines = lines.clone();
            move || Sink(lines.clone())
        };
        let subscriber = tracing_subscriber::fmt()
            .with_writer(writer.clone())
            .without_time()
            .with_target(false)
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .compact()
            .with_ansi(false)
            .finish();
        let evil = "no\nWARN forged\u{1b}[2J\r\u{202e}\u{2028}é";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("it said: {evil}");
            tracing::warn!(evil, error = %evil, "it said");
        });
        let text = String::from_utf8(lines.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        let escaped = "no\\nWARN forged\\u{1b}[2J\\r\\u{202e}\\u{2028}é";
        assert!(text.starts_with(&format!(" WARN it said: {escaped}\n")), "{text}");
        assert!(text.contains(&format!("error={escaped}")), "{text}");
    }

    #[test]
    fn json_lines_are_ascii_where_a_terminal_would_be_steered() {
        let mut lines = Vec::new();
        EscapingJson(&mut lines).write_all("{\"message\":\"a\u{202e}b\u{9b}é\"}\n".as_bytes()).unwrap();
        EscapingJson(&mut lines).write_all(b"{}\n").unwrap();
        assert_eq!(String::from_utf8(lines).unwrap(), "{\"message\":\"a\\u202eb\\u009bé\"}\n{}\n");
    }

    #[test]
    fn secrets_are_cut_in_all_that_is_logged() {
        let token = format!("hrt_{}", "a".repeat(71));
        for line in [format!(" WARN uri=/key?t={token}\n"), format!("{{\"message\":\"hrs_{}\"}}\n", &token[4..])] {
            let mut lines = Vec::new();
            EscapingJson(Masking(&mut lines)).write_all(line.as_bytes()).unwrap();
            Masking(&mut lines).write_all(line.as_bytes()).unwrap();
            let text = String::from_utf8(lines).unwrap();
            assert!(!text.contains(&"a".repeat(9)) && text.matches("aaaaaaaa…").count() == 2, "{text}");
            assert_eq!(text.lines().count(), 2, "{text}");
        }
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Issue 18, D8: a full pipe at stderr stopped the node.
    #[test]
    fn lines_are_dropped_and_counted_where_nobody_reads() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut log, guard) = lossy(writer, 100);
        let line = [b'x'; 4096];
        // A pipe has room for some lines, the queue for 100.
        for _ in 0..1_000 {
            log.write_all(&line).unwrap();
        }
        assert!(log.error_counter().dropped_lines() > 500);
        let began = std::time::Instant::now();
        drop(LogGuard(Some(guard)));
        assert!(began.elapsed() < FLUSH_TIMEOUT + Duration::from_secs(2));
        drop(reader);
    }

    #[test]
    fn time_is_utc_with_milliseconds() {
        let mut text = String::new();
        UtcMillis.format_time(&mut Writer::new(&mut text)).unwrap();
        assert_eq!(text.len(), "2026-02-13T15:49:15.123Z".len(), "{text}");
        assert!(text.as_bytes()[19] == b'.' && text.ends_with('Z'), "{text}");
    }
}
