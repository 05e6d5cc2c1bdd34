//! A page of metrics, family by family.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::observe::Seen;

/// The prefix of all names but those that are the same everywhere.
const PREFIX: &str = "hraftd_";

/// Families in the order in which they were added.
#[derive(Debug, Default)]
pub struct Page(pub Vec<MetricFamily>);

/// The labels of a series.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

fn labelled(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

impl Page {
    fn family(&mut self, name: &str, help: &str, kind: MetricType, series: Vec<Metric>) {
        let is_everybodys = name.starts_with("process_");
        let name = if is_everybodys { name.to_owned() } else { format!("{PREFIX}{name}") };
        let mut family = MetricFamily::default();
        family.set_name(name);
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(series);
        self.0.push(family);
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(&[][..], value)]);
    }

    /// Such numbers, with labels.
    pub fn gauges<'a>(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        let series = series.into_iter().map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = labelled(labels);
            metric.set_gauge(gauge);
            metric
        });
        self.family(name, help, MetricType::GAUGE, series.collect());
    }

    /// A number that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.counters(name, help, [(&[][..], value)]);
    }

    /// Such numbers, with labels.
    pub fn counters<'a>(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        let series = series.into_iter().map(|(labels, value)| {
            let mut counter = Counter::default();
            counter.set_value(value);
            let mut metric = labelled(labels);
            metric.set_counter(counter);
            metric
        });
        self.family(name, help, MetricType::COUNTER, series.collect());
    }

    /// Histograms, with labels.
    pub fn histograms<'a>(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels<'a>, Seen)>) {
        let series = series.into_iter().map(|(labels, seen)| {
            let bucket = |(bound, count): &(f64, u64)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(*count);
                bucket
            };
            let mut histogram = Histogram::default();
            histogram.set_bucket(seen.buckets.iter().map(bucket).collect());
            histogram.set_sample_count(seen.count);
            histogram.set_sample_sum(seen.sum);
            let mut metric = labelled(labels);
            metric.set_histogram(histogram);
            metric
        });
        self.family(name, help, MetricType::HISTOGRAM, series.collect());
    }
}
