//! The daemon's metrics as Prometheus reads them (`OpenMetrics` text). Pure.
//!
//! Labels are watched directories, states and targets. Their number does not grow with the store.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::process::ProcessUsage;
use super::protocol::{Health, Status};
use crate::ingest::{IngestStatus, ItemCounts, PassedOver, RootStatus};
use crate::sync::TargetStatus;

/// Media type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The values of all metrics at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) status: Status,
    pub(crate) health: Health,
    pub(crate) items: ItemCounts,
    /// Number of commits, and the seconds that they took in total.
    pub(crate) commits: (u64, f64),
    pub(crate) process: ProcessUsage,
    /// Free bytes of the store's disk, and bytes of the index.
    pub(crate) room: (u64, u64),
}

type TargetMetric = (&'static str, &'static str, MetricType, fn(&TargetStatus) -> f64);

/// Metrics of each target.
const TARGET_METRICS: [TargetMetric; 6] = [
    ("target_delivered_items", "Items delivered to a target", MetricType::Gauge, |target| {
        float(target.delivered)
    }),
    ("target_pending_items", "Items to deliver to a target", MetricType::Gauge, |target| {
        float(target.pending)
    }),
    (
        "target_pending_bytes",
        "Bytes of the images to deliver to a target",
        MetricType::Gauge,
        |target| float(target.pending_bytes),
    ),
    (
        "target_oldest_seconds",
        "Age of the oldest image to deliver to a target",
        MetricType::Gauge,
        |target| target.oldest_s.unwrap_or(0.0),
    ),
    (
        "target_set_aside_items",
        "Parked images: a target failed with them or rejected them",
        MetricType::Gauge,
        |target| float(target.set_aside),
    ),
    (
        "target_in_trouble",
        "Whether the last delivery to a target failed",
        MetricType::Gauge,
        |target| f64::from(u8::from(target.trouble.is_some())),
    ),
];

impl Snapshot {
    /// Writes the metrics as text.
    ///
    /// # Errors
    /// Never: writing to a `String` does not fail.
    pub(crate) fn into_text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("safelight");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

type Labels = Vec<(&'static str, String)>;

/// Writes one metric after the other.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            let encoder = family.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(encoder)?,
                _ => ConstGauge::new(value).encode(encoder)?,
            }
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(name, help, MetricType::Counter, [(Labels::new(), value)])
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, [(Labels::new(), value)])
    }
}

/// A count as a metric's value.
#[expect(clippy::cast_precision_loss, reason = "no count comes near 2^53")]
fn float(n: u64) -> f64 {
    n as f64
}

/// What the daemon's engine does.
fn encode_ingest(page: &mut Page<'_>, view: &IngestStatus) -> fmt::Result {
    page.gauge("lag_seconds", "Age of the oldest waiting line or dump", view.lag_s)?;
    page.gauge(
        "log_bytes_behind",
        "Bytes of media logs that are not read yet",
        float(view.log_bytes_behind),
    )?;
    page.gauge("dumps_settling", "Dumps that are not settled yet", float(view.n_settling))?;
    page.gauge(
        "dumps_waiting",
        "Lines and dumps that wait for a file",
        float(view.waiting.len() as u64),
    )?;
    page.counter(
        "skipped_entries",
        "Entries of dumps that hold no picture, since the daemon started",
        float(view.skipped.n),
    )?;
    page.counter(
        "event_overflows",
        "Times that the kernel dropped file events",
        float(view.n_overflows),
    )?;
    let root = |root: &RootStatus| {
        vec![("root", root.path.display().to_string()), ("backend", root.backend.clone())]
    };
    page.family(
        "watched_folders",
        "Folders that are watched or polled",
        MetricType::Gauge,
        view.watching.iter().map(|watched| (root(watched), float(watched.n_folders))),
    )?;
    let by_kind = |watched: &RootStatus| {
        let path = watched.path.display().to_string();
        let value = |found: &PassedOver| {
            let kind = found.kind.label().to_owned();
            (vec![("root", path.clone()), ("kind", kind)], float(found.n))
        };
        watched.passed_over.iter().map(value).collect::<Vec<_>>()
    };
    page.family(
        "passed_over",
        "What was probably meant for Safelight and is not read as it lies, by kind",
        MetricType::Gauge,
        view.watching.iter().flat_map(by_kind),
    )?;
    page.family(
        "runs_without_input",
        "Run directories without a media log and without a dump",
        MetricType::Gauge,
        view.watching.iter().map(|watched| (root(watched), float(watched.n_runs_without_input))),
    )?;
    page.family(
        "missed_by_events",
        "New files found by a scan that no event announced",
        MetricType::Counter,
        view.watching.iter().map(|watched| (root(watched), float(watched.n_missed))),
    )
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let ItemCounts { n_in, n_in_flight, n_image, n_held, n_rejected, n_given_back } =
            self.items;
        let of = |name, value: &str| vec![(name, value.to_owned())];
        page.counter("items_in", "Items planned since the daemon started", float(n_in))?;
        let states = [("image", n_image), ("held", n_held), ("rejected", n_rejected)];
        page.family(
            "items_out",
            "Items committed since the daemon started, by state",
            MetricType::Counter,
            states.map(|(state, n)| (of("state", state), float(n))),
        )?;
        let help = "Items that could not be read or written, and are read and counted again";
        page.counter("items_given_back", help, float(n_given_back))?;
        page.gauge("items_in_flight", "Items between plan and commit", float(n_in_flight))?;

        let Status { image, held, rejected, runs, .. } = &self.status;
        let states = [("image", *image), ("held", *held), ("rejected", *rejected)];
        page.family(
            "store_items",
            "Items in the store",
            MetricType::Gauge,
            states.map(|(state, n)| (of("state", state), float(n))),
        )?;
        let n_waiting = self.status.waiting.as_ref().map_or(0, |waiting| waiting.n);
        let help = "Rejected items in the store that are tried again";
        page.gauge("store_waiting_items", help, float(n_waiting))?;
        page.gauge("store_runs", "Runs in the store", float(runs.len() as u64))?;
        let n_damaged = runs.iter().map(|run| run.damaged).sum();
        page.gauge("store_damaged_lines", "Damaged lines of journals", float(n_damaged))?;
        let n_left_out = self.status.left_out.len() as u64;
        let help = "Runs that are left out, because their files in the store fail";
        page.gauge("store_left_out_runs", help, float(n_left_out))?;
        let media = &self.status.media;
        let states = [("damaged", media.damaged), ("missing", media.missing)];
        page.family(
            "store_bad_media_files",
            "Media files that were found damaged or missing, by what is wrong",
            MetricType::Gauge,
            states.map(|(state, n)| (of("state", state), float(n))),
        )?;
        let help = "Bytes of media files that the current pass of the scrub has read";
        page.gauge("store_scrubbed_bytes", help, float(media.scrubbed_bytes))?;
        let n_repeated = runs.iter().map(|run| run.repeated).sum();
        let help = "Lines of logs that were read before, and made no item";
        page.gauge("store_repeated_lines", help, float(n_repeated))?;
        let n_superseded = runs.iter().map(|run| run.superseded).sum();
        let help = "Lines of logs that a later session of the job has replaced";
        page.gauge("store_superseded_lines", help, float(n_superseded))?;
        page.gauge("store_free_bytes", "Free bytes of the store's disk", float(self.room.0))?;
        page.gauge("index_bytes", "Bytes of the index", float(self.room.1))?;
        let (n_commits, commit_s) = self.commits;
        page.counter("commits", "Commits since the daemon started", float(n_commits))?;
        page.counter("commit_seconds", "Time spent in commits", commit_s)?;

        if let Some(view) = &self.status.ingest {
            encode_ingest(&mut page, view)?;
        }
        let targets = &self.status.targets;
        let by_target = |value: fn(&TargetStatus) -> f64| {
            targets.iter().map(move |target| (of("target", &target.name), value(target)))
        };
        for (name, help, kind, value) in TARGET_METRICS {
            page.family(name, help, kind, by_target(value))?;
        }
        page.gauge(
            "ready",
            "Whether the initial scan is complete",
            f64::from(u8::from(self.health.ready)),
        )?;
        page.gauge(
            "healthy",
            "Whether the daemon is healthy",
            f64::from(u8::from(self.health.healthy)),
        )?;

        let ProcessUsage { cpu_s, resident_bytes, n_fds, n_threads } = self.process;
        page.counter("process_cpu_seconds", "CPU time of the process", cpu_s)?;
        page.gauge(
            "process_resident_memory_bytes",
            "Memory of the process",
            float(resident_bytes),
        )?;
        page.gauge("process_open_fds", "Open files of the process", float(n_fds))?;
        page.gauge("process_threads", "Threads of the process", float(n_threads))
    }
}
