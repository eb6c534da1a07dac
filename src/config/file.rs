//! The configuration file as it is written: TOML, unknown names refused.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::control::{ControlSection, MetricsSection};
use super::gallery::GallerySection;
use super::image::ImageSection;
use super::ingest::IngestSection;
use super::limits::LimitsSection;
use super::log::LogSection;
use super::retention::RetentionSection;
use super::store::StoreSection;
use super::sync::TargetSection;
use super::values::{TargetName, Whole};
use super::watch::WatchSection;
use super::work::WorkSection;
use super::{Boot, Config, Live};

/// Safelight's configuration.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Where images are kept.
    pub store: StoreSection,
    /// Directories that hold run directories. Any number of these.
    pub watch: Vec<WatchSection>,
    /// How images are made.
    pub image: ImageSection,
    /// How many images a step may have, and how large files and images may be.
    pub limits: LimitsSection,
    /// How much of the machine Safelight may use.
    pub work: WorkSection,
    /// When directories are listed and dumps are read.
    pub ingest: IngestSection,
    /// Targets that images are delivered to. Any number of these, each with a name of 1 to 64 letters, digits, - and _.
    /// The name identifies the target: `safelight sync NAME` syncs it, and its state is kept under the name. A new target
    /// also gets the images that were kept before. What a target misses while it cannot be reached is delivered later.
    ///
    /// The systemd unit must allow writing to a target's directory (`ReadWritePaths=`) and using the network: see
    /// systemd/safelight-network.conf.
    ///
    /// A secret never stands in this file. A setting says where to find it: `{ credential = "NAME" }` of systemd
    /// (`LoadCredential=`), `{ file = "PATH" }` or `{ env = "NAME" }`.
    #[schemars(
        with = "BTreeMap<String, TargetSection>",
        extend("propertyNames" = { "pattern": TargetName::PATTERN })
    )]
    pub sync: BTreeMap<TargetName, TargetSection>,
    /// How long media files and dumps are kept.
    pub retention: RetentionSection,
    /// Where the daemon listens for commands.
    pub control: ControlSection,
    /// Where the daemon serves metrics for Prometheus.
    pub metrics: MetricsSection,
    /// The pages on which people look at the images.
    pub gallery: GallerySection,
    /// What the daemon logs, and how.
    pub log: LogSection,
}

impl ConfigFile {
    /// The file's meaning; relative paths start at `folder`.
    #[must_use]
    pub fn into_config(self, folder: &Path) -> Config {
        self.into_config_of(folder, None)
    }

    /// The file's meaning. `named_store`, if given, is the store instead of the file's.
    pub(super) fn into_config_of(self, folder: &Path, named_store: Option<&Path>) -> Config {
        let Self {
            store,
            watch,
            image,
            limits,
            work,
            sync,
            retention,
            ingest,
            control,
            metrics,
            gallery,
            log,
        } = self;
        let (free_bytes_min, scrub) = (store.free_bytes_min, store.scrub());
        let targets = sync.into_iter();
        let targets = targets.map(|(name, target)| target.into_config(name.into_string(), folder));
        let is_store_named = named_store.is_some();
        let store = named_store.map_or_else(|| store.directory(folder), Path::to_owned);
        let boot = Boot {
            socket: control.path(folder, &store, is_store_named),
            store,
            n_threads: work.threads.as_usize(),
            memory_bytes_max: work.memory_bytes_max.get(),
            dump_digest: work.dump_digest,
            nice: work.nice.get(),
            log_format: log.format,
            metrics_listen: metrics.listen,
            gallery: gallery.into_config(folder),
        };
        let live = Live {
            watches: watch.into_iter().map(|watch| watch.into_config(folder)).collect(),
            rules: image.into(),
            limits: limits.into_limits(work.memory_bytes_max.get()),
            free_bytes_min: free_bytes_min.map(Whole::get),
            scrub,
            read_bytes_per_s_max: work.read_bytes_per_s_max.get(),
            targets: targets.collect(),
            retention: retention.into(),
            times: ingest.into(),
            log_level: log.level.to_string(),
        };
        Config { boot, live }
    }
}
