//! Palettes: the colours of pictures with few of them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::picture::{ColorType, Picture};

const N_COLORS_MAX: usize = 256;

const N_SLOTS: usize = 1024;

/// The colours of a picture, and the colour of each pixel. Reuses its buffers from one picture to the next.
#[derive(Debug)]
pub(crate) struct Palette {
    /// Red, green, blue, alpha, in the order of first occurrence.
    pub(crate) colors: Vec<[u8; 4]>,
    /// For each pixel, the index in `colors`.
    pub(crate) indices: Vec<u8>,
    /// For the hash of a colour, its index in `colors` plus 1, or 0 for a free slot.
    slots: Box<[u16; N_SLOTS]>,
}

impl Default for Palette {
    fn default() -> Self {
        Self { colors: Vec::new(), indices: Vec::new(), slots: Box::new([0; _]) }
    }
}

impl Palette {
    /// Finds the colours of a picture. Returns whether it is a colour picture of at most 256 colours; stops
    /// at the 257th.
    pub(crate) fn find(&mut self, pixels: Picture<'_>) -> bool {
        self.colors.clear();
        self.indices.clear();
        self.slots.fill(0);
        match pixels.color_type {
            ColorType::Rgb => {
                let colors = pixels.samples.as_chunks::<3>().0.iter();
                self.find_all(colors.map(|&[red, green, blue]| [red, green, blue, 255]))
            }
            ColorType::Rgba => self.find_all(pixels.samples.as_chunks::<4>().0.iter().copied()),
            ColorType::Bit | ColorType::Gray | ColorType::GrayAlpha | ColorType::Gray16 => false,
        }
    }

    fn find_all(&mut self, pixels: impl ExactSizeIterator<Item = [u8; 4]>) -> bool {
        self.indices.reserve(pixels.len());
        let mut last = ([0; 4], None);
        for color in pixels {
            if last.0 != color || last.1.is_none() {
                last = (color, self.index(color));
            }
            let Some(index) = last.1 else { return false };
            self.indices.push(index);
        }
        true
    }

    /// Returns the index of a colour, which is added if it is new. `None` if there are too many colours.
    fn index(&mut self, color: [u8; 4]) -> Option<u8> {
        let hash = u32::from_le_bytes(color).wrapping_mul(0x9e37_79b1) >> 22;
        let mut slot = hash as usize % N_SLOTS;
        loop {
            match self.slots[slot] {
                0 => break,
                n if self.colors[usize::from(n) - 1] == color => return u8::try_from(n - 1).ok(),
                // There are four times as many slots as colours, so one is free.
                _ => slot = (slot + 1) % N_SLOTS,
            }
        }
        let index =
            u8::try_from(self.colors.len()).ok().filter(|_| self.colors.len() < N_COLORS_MAX)?;
        self.colors.push(color);
        self.slots[slot] = u16::from(index) + 1;
        Some(index)
    }

    /// Returns the bits of an index: 1, 2, 4 or 8.
    pub(crate) fn bit_depth(&self) -> u8 {
        match self.colors.len() {
            0..=2 => 1,
            3..=4 => 2,
            5..=16 => 4,
            _ => 8,
        }
    }

    /// Returns the alpha of the colours, up to the last one that is not opaque.
    pub(crate) fn alphas(&self) -> impl Iterator<Item = u8> {
        let n = self.colors.iter().rposition(|color| color[3] < 255).map_or(0, |last| last + 1);
        self.colors[..n].iter().map(|color| color[3])
    }
}
