//! Makes the samples of one image: measures and converts its elements, chunk by chunk.

use std::io;

use super::source::{Buffers, Source, Target, View};
use super::values::{LEVELS_MIN, n_levels, spread};
use super::{Order, Samples, views};
use crate::convert::{
    Conversion, Decision, Elements, Extent, Sample, Scan, Wish, color, interleave, mode, transpose,
};
use crate::decode::ReadAt;
use crate::media::{ColorMode, Stats};
use crate::plan::TensorPlan;

/// The bytes of a chunk that are measured and then converted, before the next ones. They fit the
/// processor's nearest cache.
const BLOCK_BYTES: usize = 16 << 10;

/// Different values up to which the data itself has few levels.
const VALUES_FEW: usize = 16;

/// Rows that are looked at to count the different values.
const ROWS_MAX: u64 = 32;

/// The rule that the values of the first chunk suggest.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Guess {
    /// No chunk was read yet.
    None,
    Rule(Conversion),
    /// Later values lead to another rule, or the rule depends on all values.
    Wrong,
}

impl Guess {
    fn of(decision: &Decision) -> Self {
        match decision {
            Decision::Convert(conversion) => Self::Rule(*conversion),
            Decision::Measure(_) => Self::Wrong,
        }
    }
}

/// The destination of converted samples.
struct Converted<'a, S> {
    samples: &'a mut [S],
    /// A buffer for the samples of a chunk that are not contiguous in the picture.
    apart: Vec<S>,
}

impl<S: Sample> Converted<'_, S> {
    /// Converts a chunk that `scan` has measured. Returns the number of values that were clipped.
    fn add(&mut self, rule: &Conversion, scan: &Scan, target: Target, chunk: &[u8]) -> u64 {
        let Target { first, step } = target;
        let n = chunk.len() / rule.dtype().size();
        if step == 1 {
            rule.convert(chunk, &mut self.samples[first..first + n]);
        } else {
            self.apart.resize(n, S::default());
            rule.convert(chunk, &mut self.apart);
            let to = self.samples[first..].iter_mut().step_by(step);
            to.zip(&self.apart).for_each(|(to, &sample)| *to = sample);
        }
        // Counting is needed only if a value was outside the range.
        if scan.is_clipped_by(rule) { rule.count_clipped(chunk) } else { 0 }
    }
}

/// Makes the passes over an image's elements. Nearly always there is one.
pub(super) struct Maker<'a, R> {
    source: Source<'a, R>,
    image_idx: u64,
    order: Order,
    /// The elements, to be stored in this order.
    views: Vec<View>,
    tensor: &'a TensorPlan,
    elements: Elements,
    wish: Wish,
}

impl<'a, R: ReadAt> Maker<'a, R> {
    pub(super) fn new(
        storage: &'a R,
        tensor: &'a TensorPlan,
        image_idx: u64,
        batch: Option<Extent>,
        buffers: &'a mut Buffers,
    ) -> Self {
        let elements =
            Elements { dtype: tensor.header.dtype, byte_order: tensor.header.byte_order };
        let batch = batch.filter(|_| tensor.shares_rule());
        let order = Order::of(tensor);
        Self {
            source: Source::new(storage, elements, buffers),
            image_idx,
            order,
            views: views(tensor, image_idx, order.steps(tensor)),
            tensor,
            elements,
            wish: Wish { batch, ..tensor.wish },
        }
    }

    /// Measures all values.
    pub(super) fn extent(&mut self) -> io::Result<Option<Extent>> {
        let mut scan = Scan::new(self.elements);
        for view in &self.views {
            self.source.each_chunk(view, |_, chunk| {
                scan.see(chunk);
                io::Result::Ok(())
            })?;
        }
        Ok(scan.extent())
    }

    /// Replaces `samples` by one sample for each element, the channels of a pixel together, and those of
    /// the plan between the pictures of a sheet. Returns the rule, and the statistics and the extent of the values.
    ///
    /// The rule depends on all values, but the first chunk nearly always leads to the same rule. So each
    /// chunk is converted right after it is measured. If the rule turns out to be another one, everything
    /// is converted again.
    pub(super) fn samples<S: Sample>(
        &mut self,
        samples: &mut Samples<S>,
    ) -> io::Result<(Conversion, (Stats, Option<Extent>))> {
        let (tensor, wish) = (self.tensor, self.wish);
        let n = tensor.width * tensor.height * tensor.reading.n_channels;
        let n = usize::try_from(n).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let Samples { pixels, other } = samples;
        let Order { is_planar, is_transposed } = self.order;
        // Of two changes of the order, the first one leads to the other buffer, and the second one back.
        let made = if is_planar == is_transposed { &mut *pixels } else { &mut *other };
        let mut fill = S::default();
        if let Some(sheet) = tensor.sheet {
            made.clear();
            fill = sheet.fill.into();
        }
        made.resize(n, fill);
        let mut scan = Scan::new(self.elements);
        let mut guess = Guess::None;
        let mut n_clipped = 0;
        let mut converted = Converted { samples: made, apart: Vec::new() };
        for view in &self.views {
            self.source.each_chunk(view, |target, chunk| {
                if guess == Guess::None {
                    scan.see(chunk);
                    guess = Guess::of(&scan.decide(wish));
                    if let Guess::Rule(rule) = &guess {
                        n_clipped += converted.add(rule, &scan, target, chunk);
                    }
                    return io::Result::Ok(());
                }
                let mut target = target;
                for block in chunk.chunks_mut(BLOCK_BYTES) {
                    scan.see(block);
                    if let Guess::Rule(rule) = &guess {
                        n_clipped += converted.add(rule, &scan, target, block);
                    }
                    target.first += block.len() / tensor.header.dtype.size() * target.step;
                }
                if Guess::of(&scan.decide(wish)) != guess {
                    guess = Guess::Wrong;
                }
                io::Result::Ok(())
            })?;
        }
        let conversion = match scan.decide(wish) {
            Decision::Convert(conversion) => conversion,
            Decision::Measure(mut measure) => {
                for view in &self.views {
                    self.source.each_chunk(view, |_, chunk| {
                        measure.see(chunk);
                        io::Result::Ok(())
                    })?;
                }
                measure.decide()
            }
        };
        if guess != Guess::Rule(conversion) {
            n_clipped = 0;
            for view in &self.views {
                self.source.each_chunk(view, |target, chunk| {
                    conversion.prepare(chunk, tensor.header.byte_order);
                    n_clipped += converted.add(&conversion, &scan, target, chunk);
                    io::Result::Ok(())
                })?;
            }
        }
        let stats = Stats { clipped: scan.share(n_clipped), ..scan.stats() };
        if self.order != Order::OF_PIXELS {
            pixels.resize(n, S::default());
            other.resize(n, S::default());
            self.put_in_order(pixels, other);
        }
        Ok((conversion, (stats, scan.extent())))
    }

    /// Puts samples into the order of pixels. The result is in `pixels`. At first they are there if two changes of the
    /// order are needed, else in `other`.
    fn put_in_order<S: Sample>(&self, pixels: &mut [S], other: &mut [S]) {
        let as_index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let n_channels = as_index(self.tensor.reading.n_channels);
        let (width, height) = (as_index(self.tensor.width), as_index(self.tensor.height));
        match self.order {
            Order { is_planar: false, .. } => transpose(other, [width, height], n_channels, pixels),
            Order { is_transposed: false, .. } => interleave(other, n_channels, pixels),
            Order { .. } => {
                let planes = pixels.chunks_exact(width * height);
                for (plane, rows) in planes.zip(other.chunks_exact_mut(width * height)) {
                    transpose(plane, [width, height], 1, rows);
                }
                interleave(other, n_channels, pixels);
            }
        }
    }

    /// Converts samples to the picture's mode, after the colormap, the NaN color and the background.
    pub(super) fn pixels(
        &mut self,
        mut samples: Vec<u8>,
        conversion: &Conversion,
        stats: &Stats,
    ) -> io::Result<Vec<u8>> {
        let tensor = self.tensor;
        let mut mode_now = tensor.natural_mode();
        let width = usize::try_from(tensor.width).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if let Some(map) = tensor.colormap {
            (samples, mode_now) = (color::mapped(&samples, map), ColorMode::Rgb);
        }
        if let Some(nan_color) = tensor.nan_color {
            let colored = if mode_now.has_alpha() { ColorMode::Rgba } else { ColorMode::Rgb };
            (samples, mode_now) = (mode::convert(samples, mode_now, colored, width), colored);
            if stats.nan > 0 {
                color::mark(
                    &mut samples,
                    colored.n_channels(),
                    &self.nan_pixels(conversion)?,
                    nan_color,
                );
            }
        }
        if tensor.drops_alpha {
            samples = mode::convert(samples, mode_now, mode_now.opaque(), width);
            mode_now = mode_now.opaque();
        }
        if let Some(background) = tensor.background {
            samples = color::composited(&samples, mode_now.n_channels(), background);
            mode_now = mode_now.opaque();
        }
        Ok(mode::convert(samples, mode_now, tensor.mode, width))
    }

    /// Returns for each pixel whether a channel of it is NaN.
    fn nan_pixels(&mut self, conversion: &Conversion) -> io::Result<Vec<bool>> {
        let tensor = self.tensor;
        let n_pixels = usize::try_from(tensor.width * tensor.height);
        let mut is_nan = vec![false; n_pixels.map_err(|_| io::ErrorKind::OutOfMemory)?];
        let n_channels = tensor.natural_mode().n_channels();
        let steps = Order::OF_PIXELS.steps(tensor);
        for view in &views(tensor, self.image_idx, steps) {
            self.source.each_chunk(view, |Target { first, step }, chunk| {
                conversion.prepare(chunk, tensor.header.byte_order);
                conversion.each_nan(chunk, |i, is| {
                    is_nan[(first + i * step) / n_channels] |= is;
                });
                io::Result::Ok(())
            })?;
        }
        Ok(is_nan)
    }

    /// Returns the number of different samples, if there are few although the data has many different values.
    pub(super) fn few_levels(&mut self, samples: &[u8], stats: &Stats) -> io::Result<Option<u8>> {
        /// Nearly all pictures have enough levels in their first samples.
        const FIRST: usize = 4096;
        let is_worth_it =
            self.elements.dtype.is_float() && self.wish.range.is_none() && spread(stats).is_some();
        if !is_worth_it || n_levels(&samples[..samples.len().min(FIRST)]) >= usize::from(LEVELS_MIN)
        {
            return Ok(None);
        }
        // A mask is told by a few of its rows, faster than by all samples.
        if !self.has_many_values()? {
            return Ok(None);
        }
        let n = n_levels(samples);
        Ok(u8::try_from(n).ok().filter(|&n| n < LEVELS_MIN))
    }

    /// Whether some rows, spread evenly, have many different values.
    fn has_many_values(&mut self) -> io::Result<bool> {
        let size = self.elements.dtype.size();
        let n_rows_of_view = (ROWS_MAX / self.views.len() as u64).max(1);
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for view in &self.views {
            let [rows, rest @ ..] = view.axes.as_slice() else { continue };
            let n_rows = rows.length.min(n_rows_of_view);
            for i in 0..n_rows {
                let row = i * rows.length / n_rows;
                let first = view.first + row * rows.from * size as u64;
                let row = View { first, to: 0, axes: rest.to_vec() };
                self.source.each_chunk(&row, |_, chunk| {
                    let mut last: &[u8] = &[];
                    for value in chunk.chunks_exact(size) {
                        if value != last && seen.len() <= VALUES_FEW {
                            if !seen.iter().any(|known| known == value) {
                                seen.push(value.to_vec());
                            }
                            last = value;
                        }
                    }
                    io::Result::Ok(())
                })?;
                if seen.len() > VALUES_FEW {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
