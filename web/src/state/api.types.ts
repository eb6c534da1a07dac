// The types of the HTTP API. Written by a test from src/gallery/{api,problem}.rs: change those.
// `SAFELIGHT_UPDATE=1 cargo test --lib gallery::typescript` writes this file.

/** An item, as `ls --json` prints it. */
export type Item = ItemForm & OptionalItemFields;

/**
 * One item, as `ls --json` and `show --json` print it: one object a line.
 */
export type ItemForm = { 
/**
 * The run.
 */
run: string, 
/**
 * The key. Null for a rejected line or dump without a readable key.
 */
key: string | null, 
/**
 * The step.
 */
step: StepNumber | null, 
/**
 * The index in the step, from 0.
 */
index: number | null, 
/**
 * `image`, `held` or `rejected`.
 */
state: string, 
/**
 * Why the item is held or rejected.
 */
reason: string | null, 
/**
 * Of a rejected item, `final`, or `waiting` if it is tried again.
 */
class: string | null, 
/**
 * The media file, relative to the store.
 */
path: string | null, 
/**
 * Type of the media file.
 */
file_type: string | null, 
/**
 * Color mode: `L`, `LA`, `RGB` or `RGBA`.
 */
mode: string | null, 
/**
 * Width in pixels.
 */
width: number | null, 
/**
 * Height in pixels.
 */
height: number | null, 
/**
 * Bytes of the media file.
 */
size: number | null, 
/**
 * SHA-256 of the media file, in hexadecimal.
 */
sha256: string | null, 
/**
 * The caption.
 */
caption: string | null, 
/**
 * The number of images that belong together.
 */
grouping: number | null, 
/**
 * The profile of the rules for pixels, such as `auto`.
 */
profile: string | null, 
/**
 * The rule that maps values to pixels.
 */
rule: string | null, 
/**
 * Which axis is which, such as `HWC`.
 */
format: string | null, 
/**
 * Statistics of the values.
 */
stats: Stats | null, 
/**
 * The dump or line that the item comes from.
 */
source: Record<string, unknown>, };

/**
 * The fields that only some items have.
 */
export type OptionalItemFields = { 
/**
 * The values that became the least and the greatest byte.
 */
range?: [number, number], 
/**
 * The colormap's name.
 */
colormap?: string, 
/**
 * Whether which axis is which was guessed.
 */
format_guessed?: boolean, 
/**
 * The image's size in the dump, if the stored one is smaller: width, height.
 */
downscaled_from?: [number, number], 
/**
 * Whether retention removed the media file.
 */
pruned?: boolean, 
/**
 * Classes: a list of `{id, name}`.
 */
classes: unknown, 
/**
 * Sets of boxes by name.
 */
boxes: Record<string, unknown>, 
/**
 * Masks by name.
 */
masks: Record<string, unknown>, 
/**
 * What is odd about the item.
 */
warnings?: Array<string>, 
/**
 * When it was logged, in seconds since the Unix epoch.
 */
time?: number, 
/**
 * Other fields of its line.
 */
extra: unknown, };

/**
 * Statistics of an image's values.
 */
export type Stats = { 
/**
 * The least finite value.
 */
min: number | null, 
/**
 * The greatest finite value.
 */
max: number | null, 
/**
 * The mean of the finite values.
 */
mean: number | null, 
/**
 * The standard deviation of the finite values.
 */
std: number | null, 
/**
 * The number of NaN values.
 */
nan: number, 
/**
 * The number of infinite values.
 */
inf: number, 
/**
 * The share of values outside the range that the rule maps.
 */
clipped: number, 
/**
 * Whether all values are equal.
 */
constant: boolean, };

/**
 * `/api/v1/info`: the store, and what may be asked of it.
 */
export type Info = { 
/**
 * Safelight's version.
 */
version: string, 
/**
 * The store's directory. Of a fleet, the URL of the object store.
 */
store: string, 
/**
 * Whether the runs are those that boxes have delivered to an object store. A run's id is `BOX/RUN` then.
 */
fleet: boolean, 
/**
 * The machine's name.
 */
host: string, 
/**
 * A random name of this process. A page that sees another one asks for everything again.
 */
boot: string, 
/**
 * When the index was read, in seconds since the Unix epoch. Null if a daemon serves the gallery: then it is live.
 */
as_of: number | null, 
/**
 * Whether values of dumps are served (`gallery.dumps`). Never of a fleet.
 */
dumps: boolean, 
/**
 * The names of the colormaps for `develop.png` and `compare.png`.
 */
colormaps: Array<string>, 
/**
 * The limits of requests.
 */
limits: RequestLimits, };

/**
 * The limits of requests.
 */
export type RequestLimits = { 
/**
 * The runs in an answer of `/api/v1/runs`.
 */
runs_max: number, 
/**
 * The items in an answer of `/api/v1/at`.
 */
at_items_max: number, 
/**
 * The items in an answer of `/api/v1/items`.
 */
items_max: number, 
/**
 * The steps in a request to `/api/v1/frames`.
 */
frame_steps_max: number, 
/**
 * The bytes of an answer of `/api/v1/frames`.
 */
frames_bytes_max: number, 
/**
 * The bytes of any other answer in JSON, or of `values.npy`.
 */
answer_bytes_max: number, 
/**
 * The pixels of an image that is decoded as a whole.
 */
pixels_max: number, 
/**
 * The items in `export.tar`.
 */
export_items_max: number, 
/**
 * The pictures on a page that compares.
 */
compare_max: number, };

/**
 * A step: a number, or a decimal string if JavaScript's numbers can't hold it.
 */
export type StepNumber = number | string;

/**
 * `/api/v1/runs`: runs, in the order that was asked for.
 */
export type Runs = { 
/**
 * The runs from the cursor on. May be fewer than the limit.
 */
runs: Array<RunRow>, 
/**
 * How many runs match, before the cursor and after it.
 */
matching: number, 
/**
 * How many runs the store has; if some are named, how many of these.
 */
all: number, 
/**
 * The cursor of the next request; null at the end.
 */
next: string | null, };

/**
 * One run in `/api/v1/runs`.
 */
export type RunRow = { 
/**
 * Whether its items are counted. Those of a fleet's run are not before somebody opens the run.
 */
counted: boolean, 
/**
 * The name in `safelight.json`.
 */
name: string | null, 
/**
 * The parameters in `safelight.json`.
 */
config: Record<string, unknown>, 
/**
 * The greatest step that has an image or a held item.
 */
last_step: StepNumber | null, 
/**
 * When the run's journal last changed, in seconds since the Unix epoch.
 */
changed: number | null, 
/**
 * The image at the greatest step, of the first key that has one there.
 */
newest: Thumbnail | null, 
/**
 * The run's id.
 */
run: string, 
/**
 * The run directory.
 */
source: string, 
/**
 * Images.
 */
image: number, 
/**
 * Items that are held.
 */
held: number, 
/**
 * Lines and dumps rejected.
 */
rejected: number, 
/**
 * Those among them that are tried again.
 */
waiting: number, 
/**
 * The images among them whose files retention removed.
 */
pruned: number, 
/**
 * Damaged lines of its journal.
 */
damaged: number, 
/**
 * Lines of logs that made no item, because they were read before: their log is a copy or was
 * rewritten.
 */
repeated: number, 
/**
 * Lines of logs that made no item, because a later session of the job has replaced what they describe.
 */
superseded: number, 
/**
 * Whether the job said that the run is finished.
 */
finished: boolean, };

/**
 * Where an image's thumbnail is: `/t/SIZE/SHA20?run=…&key=…&step=…&index=…`.
 */
export type Thumbnail = { 
/**
 * The image's key.
 */
key: string, 
/**
 * The image's step.
 */
step: StepNumber, 
/**
 * The image's index in the step.
 */
index: number, 
/**
 * The first 20 hexadecimal digits of the SHA-256 of its media file.
 */
sha20: string, 
/**
 * Its width in pixels.
 */
width: number, 
/**
 * Its height in pixels.
 */
height: number, };

/**
 * One key in `/api/v1/keys`.
 */
export type KeyRow = { 
/**
 * The key.
 */
key: string, 
/**
 * The number of its images.
 */
image: number, 
/**
 * The number of its held items.
 */
held: number, 
/**
 * The number of rejected items that said this key.
 */
rejected: number, 
/**
 * The least step that has an image or a held item.
 */
first: StepNumber | null, 
/**
 * The greatest step that has an image or a held item.
 */
last: StepNumber | null, 
/**
 * One more than the greatest index.
 */
indices: number, };

/**
 * `/api/v1/steps`: the steps of a key.
 */
export type Steps = { 
/**
 * In order of their first step. They don't overlap.
 */
segments: Array<Segment>, 
/**
 * The cursor of the next request; null at the end.
 */
next: string | null, };

/**
 * Steps at equal distances that have equally many items: `[first, stride, count, images, held, rejected]`. The steps
 * are `first`, `first + stride`, …, `count` of them. Each has this number of images, held and rejected items. A single
 * step has the stride 0.
 */
export type Segment = [StepNumber, StepNumber, number, number, number, number];

/**
 * `/api/v1/at`: what each run and key shows at a step.
 */
export type At = { 
/**
 * The step that was asked for. For `last`, the greatest step of all the cells.
 */
step: StepNumber | null, 
/**
 * In order of runs as asked for, and then of keys.
 */
cells: Array<Cell>, 
/**
 * The cursor of the next request; null at the end.
 */
next: string | null, };

/**
 * What a key of a run shows at a step.
 */
export type Cell = { 
/**
 * The run.
 */
run: string, 
/**
 * The key.
 */
key: string, 
/**
 * The greatest step up to the one that was asked for; null if the key begins later.
 */
step: StepNumber | null, 
/**
 * The least step of the key.
 */
first: StepNumber, 
/**
 * The images and held items at that step, in order of their indices.
 */
items: Item[], };

/**
 * `/api/v1/items`: some of the items that match.
 */
export type Items = { 
/**
 * The items, in the requested order. May be empty although there is a `next`.
 */
items: Item[], 
/**
 * The cursor of the next request; null at the end.
 */
next: string | null, 
/**
 * How many items this request and those before it looked at.
 */
looked_at: number, 
/**
 * How many there are to look at: those of the run, key and steps that were asked for, or more.
 */
of: number, };

/**
 * `/api/v1/item`: one item.
 */
export type ItemDetails = { 
/**
 * The item.
 */
item: Item, 
/**
 * The tensor that it was made from.
 */
dump: DumpFacts, 
/**
 * Python that reads the tensor, such as `np.load("/data/runs/a/dumps/x.npy")[3]`. Null if there is no dump.
 */
python: string | null, 
/**
 * Python that logs the image with wandb.
 */
wandb: string | null, 
/**
 * The command line that shows the item.
 */
show: string, 
/**
 * Of a held item, the command line that releases it.
 */
release: string | null, 
/**
 * The media file, absolute. Null if there is none.
 */
file: string | null, 
/**
 * Of each set of boxes and each mask: what it is called, and its classes.
 */
layers: Array<Layer>, 
/**
 * The nearest steps of the key before and after this one. Null if there is none, or if it has no item of this
 * index.
 */
around: [StepNumber | null, StepNumber | null], 
/**
 * One more than the greatest index in the step.
 */
indices: number, };

/**
 * What is known of an item's dump.
 */
export type DumpFacts = { 
/**
 * How it is known that these are the values that made the image: `digest` if the whole dump has the recorded
 * digest, `pixels` if the image made again has the stored pixels, `held` for a held item whose dump has the
 * recorded length and modification time. Null if the values are not served.
 */
proof: Proof | null, 
/**
 * Why the values are not served.
 */
reason: string | null, 
/**
 * The element type in Safelight's words, such as `float32`.
 */
dtype: string | null, 
/**
 * The lengths of the tensor's axes.
 */
shape: Array<number> | null, 
/**
 * Which image of the tensor it is, from 0.
 */
image: number | null, 
/**
 * The image's `[height, width, channels]`, as in `values.npy`.
 */
size: [number, number, number] | null, 
/**
 * The values that become the least and the greatest byte under the rule of the stored picture.
 */
span: [number, number] | null, };

/**
 * How it is known that values are those of an image.
 */
export type Proof = "digest" | "pixels" | "held";

/**
 * A set of boxes or a mask.
 */
export type Layer = { 
/**
 * `boxes` or `mask`.
 */
kind: string, 
/**
 * The name in the item's `boxes` or `masks`, such as `predictions`.
 */
name: string, 
/**
 * Classes by id, as text.
 */
classes: { [key in string]: LayerClass }, 
/**
 * Bytes of the layer's file.
 */
size: number, };

/**
 * A class of a layer.
 */
export type LayerClass = { 
/**
 * The class's name; its id if it has none.
 */
name: string, 
/**
 * Its color: red, green, blue. The same at every step and in `TensorBoard`.
 */
color: [number, number, number], };

/**
 * `/api/v1/histogram`: how often values occur.
 */
export type Histogram = { 
/**
 * The lower edge of the first bin.
 */
low: number, 
/**
 * The upper edge of the last bin, which includes it.
 */
high: number, 
/**
 * One for each channel.
 */
channels: Array<ChannelHistogram>, 
/**
 * The dump's proof; null if the values are those of the stored picture.
 */
proof: Proof | null, 
/**
 * The 1st and the 99th percentile of all finite values, to the width of a bin of the whole span.
 */
percentiles: [number, number] | null, };

/**
 * The values of one channel.
 */
export type ChannelHistogram = { 
/**
 * Values in each bin.
 */
counts: Array<number>, 
/**
 * NaN values.
 */
nan: number, 
/**
 * Values of +∞.
 */
positive_inf: number, 
/**
 * Values of −∞.
 */
negative_inf: number, 
/**
 * Finite values below `low`.
 */
below: number, 
/**
 * Finite values above `high`.
 */
above: number, 
/**
 * The least finite value.
 */
min: number | null, 
/**
 * The greatest finite value.
 */
max: number | null, };

/**
 * `/api/v1/compare`: how two images differ. *A* is the reference.
 */
export type Comparison = { 
/**
 * Why there are no figures, such as other sizes or channels.
 */
reason: string | null, 
/**
 * The greatest difference that is possible: the span of values that *A*'s rule maps.
 */
peak: number, 
/**
 * Whether the values of each come from its dump (with proof), or from its stored picture (null).
 */
proofs: [Proof | null, Proof | null], 
/**
 * Over all channels.
 */
whole: Differences | null, 
/**
 * For each channel.
 */
channels: Array<Differences>, };

/**
 * How two images differ, over the pixels that are finite in both.
 */
export type Differences = { 
/**
 * Mean squared error.
 */
mse: number | null, 
/**
 * Mean absolute error.
 */
mae: number | null, 
/**
 * The greatest absolute difference, and its place: x, y, channel.
 */
max: number | null, 
/**
 * Its x, y and channel.
 */
at: [number, number, number] | null, 
/**
 * Peak signal-to-noise ratio in decibels; null if the images are equal.
 */
psnr: number | null, 
/**
 * Structural similarity, as scikit-image's with Gaussian weights; null if an image is smaller than its window.
 */
ssim: number | null, 
/**
 * The values that are finite in both.
 */
n_finite: number, 
/**
 * The other values.
 */
n_other: number, };

/**
 * The head of one thumbnail in `/api/v1/frames`: a `u32` (little-endian) with the length of this JSON, the JSON, and
 * `size` bytes of the picture, repeated. Frames come in the order of the steps that were asked for, each image once.
 * An answer that reaches its limit ends early, after a whole frame.
 */
export type FrameHead = { 
/**
 * The run.
 */
run: string, 
/**
 * The key.
 */
key: string, 
/**
 * The thumbnail's own step.
 */
step: StepNumber, 
/**
 * The index in the step.
 */
index: number, 
/**
 * The first 20 hexadecimal digits of the SHA-256 of the media file.
 */
sha20: string, 
/**
 * The content type of the bytes, such as `image/png`. Empty if `size` is 0.
 */
type: string, 
/**
 * The number of bytes that follow; 0 if there is no picture, such as for a held or pruned one.
 */
size: number, 
/**
 * The image's full width in pixels.
 */
width: number, 
/**
 * The image's full height in pixels.
 */
height: number, };

/**
 * `event: hello` of `/api/v1/events`.
 */
export type Hello = { 
/**
 * As in [`Info`].
 */
boot: string, };

/**
 * `event: changed` of `/api/v1/events`: a key of a run has other items than before.
 */
export type Changed = { 
/**
 * The run.
 */
run: string, 
/**
 * The key.
 */
key: string, 
/**
 * The number of its images.
 */
image: number, 
/**
 * The number of its held items.
 */
held: number, 
/**
 * The number of rejected items that said this key.
 */
rejected: number, 
/**
 * The least step that has an image or a held item.
 */
first: StepNumber | null, 
/**
 * The greatest step that has an image or a held item.
 */
last: StepNumber | null, 
/**
 * One more than the greatest index.
 */
indices: number, };

/**
 * `event: run` of `/api/v1/events`: a run is new, has ended, or is gone.
 */
export type RunChanged = { 
/**
 * The run.
 */
run: string, };

/**
 * The body of an error: `application/problem+json` (RFC 9457).
 */
export type Problem = { 
/**
 * The status, such as 404.
 */
status: number, 
/**
 * What is wrong, in a few words.
 */
title: string, 
/**
 * What was found, what was expected, and where.
 */
detail: string, 
/**
 * A word for programs, such as `bad-parameter`.
 */
code: string, 
/**
 * Of `replaced`, the digits of the media file that is there now. Of `too-large`, nothing.
 */
sha20: string | null, 
/**
 * Of `too-large`, the bytes that the answer needs.
 */
needed: number | null, 
/**
 * Of `too-large`, the bytes that are allowed.
 */
allowed: number | null, 
/**
 * Of `too-large` values, the least `every` with which the answer is small enough.
 */
every: number | null, };
