//! Which requests get a line in the log.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

/// The requests that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// All of them.
    All,
    /// Those that took long, and those that failed.
    Errors,
    /// Those that took long.
    Slow,
    /// None.
    Off,
}

impl FromStr for Logged {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "errors" => Ok(Self::Errors),
            "slow" => Ok(Self::Slow),
            "off" => Ok(Self::Off),
            _ => Err("not all, slow, errors or off".to_owned()),
        }
    }
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Errors => "errors",
            Self::Slow => "slow",
            Self::Off => "off",
        })
    }
}

/// The log of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLog {
    /// Which are logged.
    pub logged: Logged,
    /// A request that takes as long took long.
    pub slow: Duration,
}

impl Default for RequestLog {
    fn default() -> Self {
        Self { logged: Logged::Slow, slow: Duration::from_millis(500) }
    }
}

/// The log of requests as it is now. Clones share it; it may change at any time.
#[derive(Debug, Clone, Default)]
pub struct RequestLogNow(Arc<ArcSwap<RequestLog>>);

impl RequestLogNow {
    /// As it is.
    pub fn get(&self) -> RequestLog {
        **self.0.load()
    }

    /// From now on it is so.
    pub fn set(&self, log: RequestLog) {
        self.0.store(Arc::new(log));
    }
}

impl RequestLog {
    /// Tells whether a request may be logged that took so long.
    pub fn may_take(self, took: Duration) -> bool {
        match self.logged {
            Logged::All => true,
            Logged::Errors | Logged::Slow => took >= self.slow,
            Logged::Off => false,
        }
    }

    /// Tells whether a request is logged that took so long. `waited`: it was to wait for something to happen, and is not
    /// slow for that.
    pub fn takes(self, took: Duration, failed: bool, waited: bool) -> bool {
        let is_slow = took >= self.slow && !waited;
        match self.logged {
            Logged::All => true,
            Logged::Errors => failed || is_slow,
            Logged::Slow => is_slow,
            Logged::Off => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged() {
        let slow = Duration::from_millis(500);
        for (name, logged) in [
            // Quick and fine, quick and failed, slow, slow because it waited.
            ("all", [true; 4]),
            ("errors", [false, true, true, false]),
            ("slow", [false, false, true, false]),
            ("off", [false; 4]),
        ] {
            let log = RequestLog { logged: name.parse().unwrap(), slow };
            assert_eq!(log.logged.to_string(), name);
            let takes = [(1, false, false), (1, true, false), (500, false, false), (900, false, true)]
                .map(|(ms, failed, waited)| log.takes(Duration::from_millis(ms), failed, waited));
            assert_eq!(takes, logged, "{name}");
        }
        assert!("everything".parse::<Logged>().is_err());
    }
}
