//! The answers of the HTTP API, as types. `web/src/state/api.types.ts` is generated from them, and a test keeps both
//! equal.
//!
//! An item has the form of [`MediaEntry::to_json`](crate::media::MediaEntry::to_json), as `ls --json` prints it. The
//! only difference: a step above 2⁵³−1 is a decimal string, here and in all answers, because JavaScript's numbers
//! can't hold it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::store::RunSummary;

/// The largest whole number that JavaScript holds exactly.
const JS_INTEGER_MAX: u64 = (1 << 53) - 1;

/// A step: a number, or a decimal string if JavaScript's numbers can't hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(ts_rs::TS), ts(type = "number | string"))]
pub(super) struct StepNumber(pub(super) u64);

impl Serialize for StepNumber {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0 > JS_INTEGER_MAX { to.collect_str(&self.0) } else { to.serialize_u64(self.0) }
    }
}

/// `/api/v1/info`: the store, and what may be asked of it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Info {
    /// Safelight's version.
    pub(super) version: String,
    /// The store's directory. Of a fleet, the URL of the object store.
    #[cfg_attr(test, ts(type = "string"))]
    pub(super) store: PathBuf,
    /// Whether the runs are those that boxes have delivered to an object store. A run's id is `BOX/RUN` then.
    pub(super) fleet: bool,
    /// The machine's name.
    pub(super) host: String,
    /// A random name of this process. A page that sees another one asks for everything again.
    pub(super) boot: String,
    /// When the index was read, in seconds since the Unix epoch. Null if a daemon serves the gallery: then it is live.
    pub(super) as_of: Option<f64>,
    /// Whether values of dumps are served (`gallery.dumps`). Never of a fleet.
    pub(super) dumps: bool,
    /// The names of the colormaps for `develop.png` and `compare.png`.
    pub(super) colormaps: Vec<String>,
    /// The limits of requests.
    pub(super) limits: RequestLimits,
}

/// The limits of requests.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[expect(clippy::struct_field_names, reason = "each is a maximum, as the settings have it")]
pub(super) struct RequestLimits {
    /// The runs in an answer of `/api/v1/runs`.
    pub(super) runs_max: u32,
    /// The items in an answer of `/api/v1/at`.
    pub(super) at_items_max: u32,
    /// The items in an answer of `/api/v1/items`.
    pub(super) items_max: u32,
    /// The steps in a request to `/api/v1/frames`.
    pub(super) frame_steps_max: u32,
    /// The bytes of an answer of `/api/v1/frames`.
    pub(super) frames_bytes_max: u32,
    /// The bytes of any other answer in JSON, or of `values.npy`.
    pub(super) answer_bytes_max: u32,
    /// The pixels of an image that is decoded as a whole.
    pub(super) pixels_max: u64,
    /// The items in `export.tar`.
    pub(super) export_items_max: u32,
    /// The pictures on a page that compares.
    pub(super) compare_max: u32,
}

/// `/api/v1/runs`: runs, in the order that was asked for.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[expect(clippy::struct_field_names, reason = "the answer names what it lists, as all lists do")]
pub(super) struct Runs {
    /// The runs from the cursor on. May be fewer than the limit.
    pub(super) runs: Vec<RunRow>,
    /// How many runs match, before the cursor and after it.
    pub(super) matching: usize,
    /// How many runs the store has; if some are named, how many of these.
    pub(super) all: usize,
    /// The cursor of the next request; null at the end.
    pub(super) next: Option<String>,
}

/// One run in `/api/v1/runs`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct RunRow {
    #[serde(flatten)]
    #[cfg_attr(test, ts(flatten))]
    pub(super) summary: RunSummary,
    /// Whether its items are counted. Those of a fleet's run are not before somebody opens the run.
    pub(super) counted: bool,
    /// The name in `safelight.json`.
    pub(super) name: Option<String>,
    /// The parameters in `safelight.json`.
    #[cfg_attr(test, ts(type = "Record<string, unknown>"))]
    pub(super) config: Map<String, Value>,
    /// The greatest step that has an image or a held item.
    pub(super) last_step: Option<StepNumber>,
    /// When the run's journal last changed, in seconds since the Unix epoch.
    pub(super) changed: Option<f64>,
    /// The image at the greatest step, of the first key that has one there.
    pub(super) newest: Option<Thumbnail>,
}

/// Where an image's thumbnail is: `/t/SIZE/SHA20?run=…&key=…&step=…&index=…`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Thumbnail {
    /// The image's key.
    pub(super) key: String,
    /// The image's step.
    pub(super) step: StepNumber,
    /// The image's index in the step.
    pub(super) index: u32,
    /// The first 20 hexadecimal digits of the SHA-256 of its media file.
    pub(super) sha20: String,
    /// Its width in pixels.
    pub(super) width: u32,
    /// Its height in pixels.
    pub(super) height: u32,
}

/// One key in `/api/v1/keys`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct KeyRow {
    /// The key.
    pub(super) key: String,
    /// The number of its images.
    pub(super) image: u64,
    /// The number of its held items.
    pub(super) held: u64,
    /// The number of rejected items that said this key.
    pub(super) rejected: u64,
    /// The least step that has an image or a held item.
    pub(super) first: Option<StepNumber>,
    /// The greatest step that has an image or a held item.
    pub(super) last: Option<StepNumber>,
    /// One more than the greatest index.
    pub(super) indices: u32,
}

/// `/api/v1/steps`: the steps of a key.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Steps {
    /// In order of their first step. They don't overlap.
    pub(super) segments: Vec<Segment>,
    /// The cursor of the next request; null at the end.
    pub(super) next: Option<String>,
}

/// Steps at equal distances that have equally many items: `[first, stride, count, images, held, rejected]`. The steps
/// are `first`, `first + stride`, …, `count` of them. Each has this number of images, held and rejected items. A single
/// step has the stride 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Segment(
    pub(super) StepNumber,
    pub(super) StepNumber,
    pub(super) u32,
    pub(super) u32,
    pub(super) u32,
    pub(super) u32,
);

/// `/api/v1/at`: what each run and key shows at a step.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct At {
    /// The step that was asked for. For `last`, the greatest step of all the cells.
    pub(super) step: Option<StepNumber>,
    /// In order of runs as asked for, and then of keys.
    pub(super) cells: Vec<Cell>,
    /// The cursor of the next request; null at the end.
    pub(super) next: Option<String>,
}

/// What a key of a run shows at a step.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Cell {
    /// The run.
    pub(super) run: String,
    /// The key.
    pub(super) key: String,
    /// The greatest step up to the one that was asked for; null if the key begins later.
    pub(super) step: Option<StepNumber>,
    /// The least step of the key.
    pub(super) first: StepNumber,
    /// The images and held items at that step, in order of their indices.
    #[cfg_attr(test, ts(type = "Item[]"))]
    pub(super) items: Vec<Value>,
}

/// `/api/v1/items`: some of the items that match.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(super) struct Items {
    /// The items, in the requested order. May be empty although there is a `next`.
    #[cfg_attr(test, ts(type = "Item[]"))]
    pub(super) items: Vec<Value>,
    /// The cursor of the next request; null at the end.
    pub(super) next: Option<String>,
    /// How many items this request and those before it looked at.
    pub(super) looked_at: u64,
    /// How many there are to look at: those of the run, key and steps that were asked for, or more.
    pub(super) of: u64,
}

/// `/api/v1/item`: one item.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct ItemDetails {
    /// The item.
    #[cfg_attr(test, ts(type = "Item"))]
    pub(super) item: Value,
    /// The tensor that it was made from.
    pub(super) dump: DumpFacts,
    /// Python that reads the tensor, such as `np.load("/data/runs/a/dumps/x.npy")[3]`. Null if there is no dump.
    pub(super) python: Option<String>,
    /// Python that logs the image with wandb.
    pub(super) wandb: Option<String>,
    /// The command line that shows the item.
    pub(super) show: String,
    /// Of a held item, the command line that releases it.
    pub(super) release: Option<String>,
    /// The media file, absolute. Null if there is none.
    pub(super) file: Option<String>,
    /// Of each set of boxes and each mask: what it is called, and its classes.
    pub(super) layers: Vec<Layer>,
    /// The nearest steps of the key before and after this one. Null if there is none, or if it has no item of this
    /// index.
    pub(super) around: [Option<StepNumber>; 2],
    /// One more than the greatest index in the step.
    pub(super) indices: u32,
}

/// What is known of an item's dump.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct DumpFacts {
    /// How it is known that these are the values that made the image: `digest` if the whole dump has the recorded
    /// digest, `pixels` if the image made again has the stored pixels, `held` for a held item whose dump has the
    /// recorded length and modification time. Null if the values are not served.
    pub(super) proof: Option<Proof>,
    /// Why the values are not served.
    pub(super) reason: Option<String>,
    /// The element type in Safelight's words, such as `float32`.
    pub(super) dtype: Option<String>,
    /// The lengths of the tensor's axes.
    pub(super) shape: Option<Vec<u64>>,
    /// Which image of the tensor it is, from 0.
    pub(super) image: Option<u64>,
    /// The image's `[height, width, channels]`, as in `values.npy`.
    pub(super) size: Option<[u32; 3]>,
    /// The values that become the least and the greatest byte under the rule of the stored picture.
    pub(super) span: Option<[f64; 2]>,
}

/// How it is known that values are those of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(super) enum Proof {
    /// The whole dump has the recorded digest.
    Digest,
    /// The image made again has the stored pixels.
    Pixels,
    /// The dump has the length and modification time recorded for the held item.
    Held,
}

/// A set of boxes or a mask.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Layer {
    /// `boxes` or `mask`.
    pub(super) kind: &'static str,
    /// The name in the item's `boxes` or `masks`, such as `predictions`.
    pub(super) name: String,
    /// Classes by id, as text.
    pub(super) classes: BTreeMap<String, LayerClass>,
    /// Bytes of the layer's file.
    pub(super) size: u64,
}

/// A class of a layer.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct LayerClass {
    /// The class's name; its id if it has none.
    pub(super) name: String,
    /// Its color: red, green, blue. The same at every step and in `TensorBoard`.
    pub(super) color: [u8; 3],
}

/// `/api/v1/histogram`: how often values occur.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Histogram {
    /// The lower edge of the first bin.
    pub(super) low: f64,
    /// The upper edge of the last bin, which includes it.
    pub(super) high: f64,
    /// One for each channel.
    pub(super) channels: Vec<ChannelHistogram>,
    /// The dump's proof; null if the values are those of the stored picture.
    pub(super) proof: Option<Proof>,
    /// The 1st and the 99th percentile of all finite values, to the width of a bin of the whole span.
    pub(super) percentiles: Option<[f64; 2]>,
}

/// The values of one channel.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct ChannelHistogram {
    /// Values in each bin.
    pub(super) counts: Vec<u64>,
    /// NaN values.
    pub(super) nan: u64,
    /// Values of +∞.
    pub(super) positive_inf: u64,
    /// Values of −∞.
    pub(super) negative_inf: u64,
    /// Finite values below `low`.
    pub(super) below: u64,
    /// Finite values above `high`.
    pub(super) above: u64,
    /// The least finite value.
    pub(super) min: Option<f64>,
    /// The greatest finite value.
    pub(super) max: Option<f64>,
}

/// `/api/v1/compare`: how two images differ. *A* is the reference.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Comparison {
    /// Why there are no figures, such as other sizes or channels.
    pub(super) reason: Option<String>,
    /// The greatest difference that is possible: the span of values that *A*'s rule maps.
    pub(super) peak: f64,
    /// Whether the values of each come from its dump (with proof), or from its stored picture (null).
    pub(super) proofs: [Option<Proof>; 2],
    /// Over all channels.
    pub(super) whole: Option<Differences>,
    /// For each channel.
    pub(super) channels: Vec<Differences>,
}

/// How two images differ, over the pixels that are finite in both.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Differences {
    /// Mean squared error.
    pub(super) mse: Option<f64>,
    /// Mean absolute error.
    pub(super) mae: Option<f64>,
    /// The greatest absolute difference, and its place: x, y, channel.
    pub(super) max: Option<f64>,
    /// Its x, y and channel.
    pub(super) at: Option<[u32; 3]>,
    /// Peak signal-to-noise ratio in decibels; null if the images are equal.
    pub(super) psnr: Option<f64>,
    /// Structural similarity, as scikit-image's with Gaussian weights; null if an image is smaller than its window.
    pub(super) ssim: Option<f64>,
    /// The values that are finite in both.
    pub(super) n_finite: u64,
    /// The other values.
    pub(super) n_other: u64,
}

/// The head of one thumbnail in `/api/v1/frames`: a `u32` (little-endian) with the length of this JSON, the JSON, and
/// `size` bytes of the picture, repeated. Frames come in the order of the steps that were asked for, each image once.
/// An answer that reaches its limit ends early, after a whole frame.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct FrameHead {
    /// The run.
    pub(super) run: String,
    /// The key.
    pub(super) key: String,
    /// The thumbnail's own step.
    pub(super) step: StepNumber,
    /// The index in the step.
    pub(super) index: u32,
    /// The first 20 hexadecimal digits of the SHA-256 of the media file.
    pub(super) sha20: String,
    /// The content type of the bytes, such as `image/png`. Empty if `size` is 0.
    #[serde(rename = "type")]
    pub(super) content_type: String,
    /// The number of bytes that follow; 0 if there is no picture, such as for a held or pruned one.
    pub(super) size: u32,
    /// The image's full width in pixels.
    pub(super) width: u32,
    /// The image's full height in pixels.
    pub(super) height: u32,
}

/// `event: hello` of `/api/v1/events`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Hello {
    /// As in [`Info`].
    pub(super) boot: String,
}

/// `event: changed` of `/api/v1/events`: a key of a run has other items than before.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Changed {
    /// The run.
    pub(super) run: String,
    /// The key as it is now.
    #[serde(flatten)]
    #[cfg_attr(test, ts(flatten))]
    pub(super) key: KeyRow,
}

/// `event: run` of `/api/v1/events`: a run is new, has ended, or is gone.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct RunChanged {
    /// The run.
    pub(super) run: String,
}
