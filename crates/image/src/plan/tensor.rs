//! Plans the images of a tensor.

use super::PlanError;
use crate::convert::{Decision, Depth, Elements, Extent, Reading, Scan, Wish, layout};
use crate::encode::{Encoding, QUALITY, encoded_bytes_max, search_bytes};
use crate::limits::{Limits, OverDimension, scaled_to};
use crate::media::{ColorMode, Colormap, FileType, Profile, Rgb, Rule};
use crate::record::{Alpha, Grid, GridOption, ImageOptions};
use crate::tensor::{Shape, TensorHeader, Writer};
use crate::values::Region;

/// The bytes of a dump that are read at once. They fit a core's cache.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// How the images of a tensor are made.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorPlan {
    /// The tensor.
    pub header: TensorHeader,
    /// The meaning of each axis.
    pub reading: Reading,
    /// The input for the choice of the rule, beside the values.
    pub wish: Wish,
    /// The arrangement of the pictures, if all of them make one image.
    pub sheet: Option<Sheet>,
    /// The number of columns of an image.
    pub width: u64,
    /// The number of rows of an image.
    pub height: u64,
    /// The colormap of a picture with one channel.
    pub colormap: Option<Colormap>,
    /// The color of pixels that are NaN.
    pub nan_color: Option<Rgb>,
    /// Whether alpha is dropped before all further steps.
    pub drops_alpha: bool,
    /// The background that the picture is composited with.
    pub background: Option<Rgb>,
    /// The mode of the image.
    pub mode: ColorMode,
    /// How the image is encoded.
    pub encoding: Encoding,
    /// An upper bound of the memory that making one image takes, in bytes.
    pub memory_bytes: u64,
    /// Whether the second of two channels is taken for alpha though the record does not say so.
    pub guesses_alpha: bool,
    /// Options of the record that have no effect.
    pub warnings: Vec<String>,
}

/// A contact sheet: pictures side by side, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sheet {
    /// The number of pictures in a row.
    pub n_columns: u64,
    /// Pixels between pictures, and around them.
    pub padding: u64,
    /// The samples between pictures. A plan has 0.
    pub fill: u8,
}

impl TensorPlan {
    /// Plans how the images of one tensor are made.
    ///
    /// # Errors
    /// If the shape is no picture's, `options` contradict the tensor or each other, or a protective
    /// limit is exceeded.
    pub fn new(
        header: TensorHeader,
        writer: Writer,
        options: ImageOptions,
        limits: &Limits,
    ) -> Result<Self, PlanError> {
        plan(header, writer, options, limits)
    }

    /// The mode of the tensor's own channels.
    #[must_use]
    pub fn natural_mode(&self) -> ColorMode {
        natural(&self.reading)
    }

    /// Whether one decision on the values holds for all images of the tensor, so that they compare: the rule
    /// that profile `auto` chooses for floats, and whether a second channel is alpha.
    ///
    /// If so, making an image needs the [extent](crate::convert::Extent) of all of them.
    #[must_use]
    pub fn shares_rule(&self) -> bool {
        let depends_on_values = self.wish.range.is_none() && self.header.dtype.is_float();
        self.n_images() > 1
            && self.wish.profile == Profile::Auto
            && (depends_on_values || self.guesses_alpha)
    }

    /// Returns the rule for images of this extent: that of one image, or of all that share a rule.
    #[must_use]
    pub fn rule(&self, extent: Option<Extent>) -> Option<Rule> {
        let Self { header, wish, .. } = self;
        let elements = Elements { dtype: header.dtype, byte_order: header.byte_order };
        match Scan::new(elements).decide(Wish { batch: extent, ..*wish }) {
            Decision::Convert(conversion) => Some(conversion.rule()),
            Decision::Measure(_) => None,
        }
    }

    /// The plan of a part of each image, and of one channel if `channel` names one. `None` if that is not within the
    /// image, or if the image is a contact sheet.
    ///
    /// The rule is chosen by the values of the part, unless [`Self::wish`] has a range.
    #[must_use]
    pub fn part(&self, region: Region, channel: Option<u64>) -> Option<Self> {
        let Region { x, y, width, height, every } = region;
        let is_within = |first: u64, n: u64, of: u64| {
            n > 0 && first.checked_add(n).is_some_and(|end| end <= of)
        };
        let n_channels = self.reading.n_channels;
        if self.sheet.is_some()
            || every == 0
            || !is_within(x, width, self.width)
            || !is_within(y, height, self.height)
            || !is_within(channel.unwrap_or(0), 1, n_channels)
        {
            return None;
        }
        let mut plan = self.clone();
        let mut shape = plan.header.shape.axes().to_vec();
        let [_, rows, columns, channels] = plan.reading.axes;
        let of_channels = channel.map_or((0, n_channels, 1), |channel| (channel, 1, 1));
        for (axis, (first, n, every)) in [
            (rows, (y, region.n_rows(), every)),
            (columns, (x, region.n_columns(), every)),
            (channels, of_channels),
        ] {
            // An axis that the tensor lacks has length 1.
            let Some(axis) = axis else { continue };
            let stride = plan.header.strides[axis];
            plan.header.first += first * stride * plan.header.dtype.size() as u64;
            plan.header.strides[axis] = stride.saturating_mul(every);
            shape[axis] = n;
        }
        plan.header.shape = Shape::new(shape)?;
        (plan.reading.width, plan.reading.height) = (region.n_columns(), region.n_rows());
        plan.reading.n_channels = of_channels.1;
        (plan.width, plan.height) = (region.n_columns(), region.n_rows());
        plan.memory_bytes = memory_bytes(&plan, None, &Limits::default());
        Some(plan)
    }

    /// The number of images that it makes.
    #[must_use]
    pub fn n_images(&self) -> u64 {
        if self.sheet.is_some() { 1 } else { self.reading.n_images }
    }
}

fn natural(reading: &Reading) -> ColorMode {
    // A layout has 1 to 4 channels.
    ColorMode::natural(reading.n_channels).unwrap_or(ColorMode::L)
}

/// Plans how a tensor is read and converted.
///
/// # Errors
/// If the shape is no picture's, the options are not possible, or the tensor is over a protective limit.
pub(super) fn plan(
    header: TensorHeader,
    writer: Writer,
    options: ImageOptions,
    limits: &Limits,
) -> Result<TensorPlan, PlanError> {
    let profile = options.profile.unwrap_or_default();
    let mut reading = layout::read(&header.shape, writer, options.format, profile, options.mode)?;
    let over = |what: &str, got: u64, name: &str, max: u64| {
        Err(PlanError::OverLimit(format!("{got} {what}, {name} is {max}")))
    };
    if reading.n_images > limits.batch_max {
        let max = limits.batch_max;
        return over("images in one dump", reading.n_images, "limits.batch_max", max);
    }
    let sheet = sheet(&reading, options.grid);
    let (width, height) = sheet.map_or((reading.width, reading.height), |sheet| {
        let n_rows = reading.n_images.div_ceil(sheet.n_columns);
        let side = |n: u64, length: u64| {
            n.saturating_mul(length.saturating_add(sheet.padding)).saturating_add(sheet.padding)
        };
        (side(sheet.n_columns, reading.width), side(n_rows, reading.height))
    });
    let n_pixels = width.saturating_mul(height);
    if n_pixels > limits.pixels_max {
        return over("pixels in one image", n_pixels, "limits.pixels_max", limits.pixels_max);
    }
    let natural = natural(&reading);
    let mut warnings = Vec::new();
    let colormap = options.colormap.filter(|_| {
        if reading.n_channels > 1 {
            warnings.push(format!("colormap has no effect on {} channels", reading.n_channels));
        }
        reading.n_channels == 1
    });
    let nan_color = options.nan_color.filter(|_| header.dtype.is_float());
    let file_type = options.file_type.unwrap_or(FileType::Png);
    // The mode of the picture before it is converted to the record's mode.
    let mut base = natural;
    if colormap.is_some() || nan_color.is_some() {
        base = if natural.has_alpha() { ColorMode::Rgba } else { ColorMode::Rgb };
    }
    let alpha = options.alpha.unwrap_or(Alpha::Keep);
    let composites = base.has_alpha() && alpha == Alpha::Composite;
    let background = composites.then(|| options.background.unwrap_or(Rgb([255; 3])));
    let drops_alpha = base.has_alpha() && alpha == Alpha::Drop;
    if alpha != Alpha::Keep {
        base = base.opaque();
    }
    let asked = options.mode.filter(|_| !reading.is_torch_sheet);
    let guessed = reading.guessed_mode.filter(|_| base == natural).unwrap_or(base);
    let mode = match asked {
        Some(mode) => check_mode(mode, base, profile, file_type)?,
        None if file_type.holds(guessed) => guessed,
        // A file type without gray and alpha may have color and alpha. If not, alpha is dropped.
        None if file_type.holds(ColorMode::Rgba) => ColorMode::Rgba,
        None => guessed.opaque(),
    };
    let is_wide = mode == ColorMode::I16 && profile == Profile::Auto;
    if is_wide && base != natural {
        let problem = "mode I;16 beside colormap, nan_color or alpha: want one or the other";
        return Err(PlanError::Record(problem.to_owned()));
    }
    let depth = if is_wide { Depth::Sixteen } else { Depth::Eight };
    let is_torch_sheet = reading.is_torch_sheet;
    let wish = Wish { profile, range: options.range, depth, is_torch_sheet, batch: None };
    let encoding = Encoding {
        file_type,
        quality: options.quality.unwrap_or(QUALITY),
        compression: options.compression.unwrap_or_default(),
        palette: options.palette.unwrap_or(false),
    };
    let guesses_alpha = profile == Profile::Auto
        && reading.n_channels == 2
        && options.format.is_none()
        && options.mode.is_none();
    reading.guessed |= guesses_alpha;
    let mut plan = TensorPlan {
        header,
        reading,
        wish,
        sheet,
        width,
        height,
        colormap,
        nan_color,
        drops_alpha,
        background,
        mode,
        encoding,
        memory_bytes: 0,
        guesses_alpha,
        warnings,
    };
    plan.memory_bytes = memory_bytes(&plan, options.downscale, limits);
    if plan.memory_bytes > limits.memory_bytes_max {
        let (what, max) = ("bytes of memory needed for one image", limits.memory_bytes_max);
        return over(what, plan.memory_bytes, "work.memory_bytes_max", max);
    }
    Ok(plan)
}

/// Returns the contact sheet that a batch makes. One picture alone makes none.
fn sheet(reading: &Reading, grid: Option<GridOption>) -> Option<Sheet> {
    let grid = match grid {
        _ if reading.is_torch_sheet => Grid::default(),
        Some(GridOption::Yes(grid)) => grid,
        Some(GridOption::No) | None => return None,
    };
    let n_columns = u64::from(grid.nrow).min(reading.n_images);
    (reading.n_images > 1).then_some(Sheet { n_columns, padding: grid.padding.into(), fill: 0 })
}

/// Checks the record's mode.
fn check_mode(
    mode: ColorMode,
    base: ColorMode,
    profile: Profile,
    file_type: FileType,
) -> Result<ColorMode, PlanError> {
    if profile == Profile::Wandb010 && mode != base {
        return Err(PlanError::Record(format!(
            "mode {mode} for {base} data: profile wandb-0.10 would relabel the bytes, which scrambles \
             the picture; want {base}, or another profile"
        )));
    }
    // A file type without black and white stores it as gray, as Pillow does for JPEG.
    if file_type.holds(mode) || mode == ColorMode::Bit && file_type.holds(ColorMode::L) {
        return Ok(mode);
    }
    let modes = [
        ColorMode::Bit,
        ColorMode::L,
        ColorMode::La,
        ColorMode::Rgb,
        ColorMode::Rgba,
        ColorMode::I16,
    ];
    let held = modes.into_iter().filter(|&mode| file_type.holds(mode)).map(ColorMode::name);
    let held = held.collect::<Vec<_>>().join(", ");
    Err(PlanError::Record(format!(
        "mode {mode} can't be stored as {file_type}: want one of {held}"
    )))
}

/// Returns an upper bound of the memory that making one image takes, in bytes: samples, pixels, the
/// encoded file and the encoder's own copy.
fn memory_bytes(plan: &TensorPlan, downscale: Option<u32>, limits: &Limits) -> u64 {
    let n_pixels = plan.width.saturating_mul(plan.height);
    let natural = plan.natural_mode().pixel_size() as u64;
    let made = plan.mode.pixel_size() as u64;
    let colored = plan.colormap.is_some()
        || plan.nan_color.is_some()
        || plan.background.is_some()
        || plan.drops_alpha;
    let samples = match plan.wish.depth {
        Depth::Eight => natural,
        Depth::Sixteen => 2 * natural,
    };
    // Colors, the samples that they are made of, and a flag for each pixel that is NaN.
    let on_the_way = if colored { 4 + 4 + 1 } else { 0 };
    let side = downscale.map_or(u64::MAX, u64::from);
    let side = match limits.over_dimension {
        OverDimension::Downscale => side.min(limits.max_dimension.into()),
        OverDimension::Hold => side,
    };
    let scaling = if plan.width.max(plan.height) > side {
        // Scaling works on rows of four floats a pixel, in one direction first.
        let (_, new_height) = scaled_to(plan.width, plan.height, side);
        plan.width.saturating_mul(u64::from(new_height)).saturating_mul(16)
    } else {
        0
    };
    let palette = if plan.encoding.palette { n_pixels } else { 0 };
    let search = search_bytes(plan.encoding.compression, n_pixels.saturating_mul(made));
    // Buffers for reading: a chunk, a window for short runs, and the digest's own chunk.
    let n_bytes = plan.reading.n_elements().saturating_mul(plan.header.dtype.size() as u64);
    let chunk = n_bytes.min(CHUNK_BYTES as u64);
    [
        // Samples may be stored twice: channel after channel, and interleaved.
        n_pixels.saturating_mul(2 * samples + on_the_way + made),
        palette,
        search,
        encoded_bytes_max(n_pixels.saturating_mul(made), plan.height).saturating_mul(2),
        3 * chunk,
        scaling,
    ]
    .into_iter()
    .fold(0, u64::saturating_add)
}
