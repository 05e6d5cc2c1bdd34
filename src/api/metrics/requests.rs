//! What the client port counts of requests.
//!
//! Labels are bounded: routes and methods are those that there are, and `other`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::{Method, StatusCode};

use crate::api::methods::{ROUTES, route_of};
use crate::api::response::error::{Code, RefusedFor};
use crate::observe::{Counter, Histogram, Scale, Seen, Sharded};

/// The statuses that are counted apart, in order; all others are counted as the last.
const STATUSES: [u16; 27] = [
    200, 201, 204, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 415, 422, 429, 431, 500, 501, 502,
    503, 504, 507, 599,
];

/// What a request was refused for, before anything of it was done.
pub const REFUSALS: [&str; 5] = ["overloaded", "forbidden", "too_large", "request_timeout", "unsupported_media_type"];

/// What is neither a route nor a method that is known.
const OTHER: &str = "other";

/// The routes, each with its methods.
#[derive(Debug)]
pub struct RequestNumbers {
    routes: Vec<&'static str>,
    /// Route and method of each row of `counts`.
    rows: Vec<(usize, &'static str)>,
    /// Rows of a count for each status.
    counts: Sharded<Box<[AtomicU64]>>,
    /// By route.
    took: Vec<Histogram>,
    begun: Counter,
    ended: Counter,
    refused: [Counter; REFUSALS.len()],
}

/// A request that is being answered.
#[derive(Debug)]
pub struct InFlight<'a>(&'a RequestNumbers);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.ended.one();
    }
}

impl Default for RequestNumbers {
    fn default() -> Self {
        let mut routes: Vec<&'static str> = Vec::new();
        let mut rows = Vec::new();
        for (method, route) in ROUTES.iter().filter_map(|(line, _)| line.split_once(' ')) {
            let nth = routes.iter().position(|known| *known == route).unwrap_or_else(|| {
                routes.push(route);
                routes.len() - 1
            });
            rows.push((nth, method));
            if method == "GET" {
                rows.push((nth, "HEAD"));
            }
        }
        routes.push(OTHER);
        rows.extend((0..routes.len()).map(|nth| (nth, OTHER)));
        let size = rows.len() * STATUSES.len();
        Self {
            counts: Sharded::new(|| (0..size).map(|_| AtomicU64::new(0)).collect()),
            took: routes.iter().map(|_| Histogram::new(Scale::SECONDS)).collect(),
            routes,
            rows,
            begun: Counter::default(),
            ended: Counter::default(),
            refused: Default::default(),
        }
    }
}

impl RequestNumbers {
    /// A request begins.
    pub fn begin(&self) -> InFlight<'_> {
        self.begun.one();
        InFlight(self)
    }

    /// The number of the route that this path takes.
    pub fn route(&self, path: &str) -> usize {
        let route = route_of(path);
        self.routes.iter().position(|known| Some(*known) == route).unwrap_or(self.routes.len() - 1)
    }

    /// A request was answered.
    pub fn answered(&self, route: usize, method: &Method, status: StatusCode, took: Duration) {
        let is_it = |row: &&(usize, &str)| row.0 == route && (row.1 == method.as_str() || row.1 == OTHER);
        let row = self.rows.iter().position(|row| is_it(&row)).unwrap_or(self.rows.len() - 1);
        let status = STATUSES.binary_search(&status.as_u16()).unwrap_or(STATUSES.len() - 1);
        if let Some(count) = self.counts.own().get(row * STATUSES.len() + status) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(histogram) = self.took.get(route) {
            histogram.took(took);
        }
    }

    /// A request was refused.
    pub fn refused(&self, RefusedFor(code): RefusedFor) {
        let nth = match code {
            Code::Overloaded => 0,
            Code::Forbidden => 1,
            Code::TooLarge => 2,
            Code::RequestTimeout => 3,
            Code::UnsupportedMediaType => 4,
            _ => return,
        };
        self.refused[nth].one();
    }

    /// How many are being answered.
    pub fn in_flight(&self) -> u64 {
        // In this order, so that it is never less than nothing.
        let ended = self.ended.get();
        self.begun.get().saturating_sub(ended)
    }

    /// By [`REFUSALS`].
    pub fn refusals(&self) -> [u64; REFUSALS.len()] {
        self.refused.each_ref().map(Counter::get)
    }

    /// How many there were of each route, method and status: those with status 200 of each route and method that there
    /// is, others where there were any.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, String, u64)> {
        let mut counts = Vec::new();
        for (nth, (route, method)) in self.rows.iter().enumerate() {
            for (status, code) in STATUSES.iter().enumerate() {
                let cell = nth * STATUSES.len() + status;
                let count = self.counts.all().map(|shard| shard[cell].load(Relaxed)).sum::<u64>();
                if count > 0 || (*code == 200 && *method != OTHER) {
                    let code = if *code == 599 { OTHER.to_owned() } else { code.to_string() };
                    counts.push((self.routes[*route], *method, code, count));
                }
            }
        }
        counts
    }

    /// How long they took, by route.
    pub fn times(&self) -> impl Iterator<Item = (&'static str, Seen)> {
        self.routes.iter().copied().zip(self.took.iter().map(Histogram::seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_labels_are_bounded() {
        let numbers = RequestNumbers::default();
        let preset = numbers.counts().len();
        assert!(preset >= ROUTES.len());
        for n in 0..1_000 {
            let method: Method = format!("EVIL{n}").parse().unwrap();
            let status = StatusCode::from_u16(200 + n % 700).unwrap();
            numbers.answered(numbers.route(&format!("/{n}")), &method, status, Duration::from_millis(1));
            numbers.answered(numbers.route(&format!("/key/{n}")), &Method::PUT, status, Duration::from_millis(1));
        }
        assert!(numbers.counts().len() < preset + 2 * STATUSES.len());
        let put = |code: &str| {
            let counts = numbers.counts();
            let row = counts
                .into_iter()
                .find(|(route, method, of, _)| (*route, *method, of.as_str()) == ("/hraftd/key/{key}", "PUT", code));
            row.map(|row| row.3)
        };
        assert_eq!((put("200"), put("503")), (Some(2), Some(1)));
        assert!(numbers.times().any(|(route, seen)| route == "/hraftd/key/{key}" && seen.count == 1_000));
    }

    #[test]
    fn statuses_are_sorted() {
        assert!(STATUSES.is_sorted());
        let numbers = RequestNumbers::default();
        let in_flight = [numbers.begin(), numbers.begin()];
        assert_eq!(numbers.in_flight(), 2);
        drop(in_flight);
        assert_eq!(numbers.in_flight(), 0);
    }
}
