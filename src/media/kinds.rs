//! The field's words for what an image can be: mode, file type, format, profile, rule. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of picture: how many channels, how wide. The names are Pillow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColorMode {
    /// Gray, 8 bit.
    #[serde(rename = "L")]
    L,
    /// Gray and alpha, 8 bit each.
    #[serde(rename = "LA")]
    La,
    /// Red, green, blue, 8 bit each.
    #[serde(rename = "RGB")]
    Rgb,
    /// Red, green, blue, alpha, 8 bit each.
    #[serde(rename = "RGBA")]
    Rgba,
    /// Gray, 16 bit. Only by request under a `wandb-*` profile, and then holding 0..255.
    #[serde(rename = "I;16")]
    I16,
}

impl ColorMode {
    /// Samples of one pixel: 1 to 4.
    #[must_use]
    pub const fn n_channels(self) -> usize {
        match self {
            Self::L | Self::I16 => 1,
            Self::La => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Bytes of one pixel: 1 to 4.
    #[must_use]
    pub const fn pixel_size(self) -> usize {
        match self {
            Self::I16 => 2,
            _ => self.n_channels(),
        }
    }

    /// The 8-bit mode of a picture with so many channels.
    #[must_use]
    pub const fn natural(n_channels: u64) -> Option<Self> {
        match n_channels {
            1 => Some(Self::L),
            2 => Some(Self::La),
            3 => Some(Self::Rgb),
            4 => Some(Self::Rgba),
            _ => None,
        }
    }

    /// Pillow's name of the mode.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L => "L",
            Self::La => "LA",
            Self::Rgb => "RGB",
            Self::Rgba => "RGBA",
            Self::I16 => "I;16",
        }
    }
}

impl fmt::Display for ColorMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a media file is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileType {
    /// Portable Network Graphics: lossless.
    Png,
}

impl FileType {
    /// The extension, and W&B's `format`.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
        }
    }
}

/// Which axis of a picture's tensor is which: N pictures, H rows, W columns, C channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it")]
pub enum DataFormat {
    Hw,
    Hwc,
    Chw,
    Nhw,
    Nhwc,
    Nchw,
}

impl DataFormat {
    /// The name: `HWC`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hw => "HW",
            Self::Hwc => "HWC",
            Self::Chw => "CHW",
            Self::Nhw => "NHW",
            Self::Nhwc => "NHWC",
            Self::Nchw => "NCHW",
        }
    }

    /// How many axes the tensor has: 2 to 4.
    #[must_use]
    pub const fn rank(self) -> usize {
        self.name().len()
    }

    /// The same with a batch axis before it, if it has none.
    #[must_use]
    pub const fn batched(self) -> Option<Self> {
        match self {
            Self::Hw => Some(Self::Nhw),
            Self::Hwc => Some(Self::Nhwc),
            Self::Chw => Some(Self::Nchw),
            Self::Nhw | Self::Nhwc | Self::Nchw => None,
        }
    }
}

impl fmt::Display for DataFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose rule makes bytes of values. Recorded with each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Profile {
    /// Ours: what is right for the data's type and finite values.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// wandb 0.10 to 0.19 (`seed` in `spec/image.md`).
    #[serde(rename = "wandb-0.10")]
    Wandb010,
    /// wandb 0.20.1 to 0.28 (`norm`).
    #[serde(rename = "wandb-0.20")]
    Wandb020,
    /// wandb 0.29 and later (`raw`).
    #[serde(rename = "wandb-0.29")]
    Wandb029,
}

/// The rule that made one image's bytes of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// \[0, 1\] × 255.
    X255,
    /// \[−1, 1\] shifted and scaled to \[0, 255\].
    Sym,
    /// The data's own minimum and maximum to 0 and 255.
    Stretch,
    /// Clipped to \[0, 255\].
    Clip,
    /// The low 8 bits.
    Wrap,
    /// Bytes as they are.
    None,
    /// An explicit `range` to \[0, 255\].
    Range,
}
