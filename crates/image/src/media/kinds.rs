//! The field's words for what an image can be: mode, file type, format, profile, rule. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of picture: how many channels, how wide. The names are Pillow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColorMode {
    /// Black and white, 1 bit.
    #[serde(rename = "1")]
    Bit,
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
    /// Gray, 16 bit; under a `wandb-*` profile holding 0..255 only.
    #[serde(rename = "I;16")]
    I16,
}

impl ColorMode {
    /// Samples of one pixel: 1 to 4.
    #[must_use]
    pub const fn n_channels(self) -> usize {
        match self {
            Self::Bit | Self::L | Self::I16 => 1,
            Self::La => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Bytes of one pixel in memory: 1 to 4. (A black and white one has a byte, 0 or 255.)
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

    /// The same without alpha.
    #[must_use]
    pub const fn opaque(self) -> Self {
        match self {
            Self::La => Self::L,
            Self::Rgba => Self::Rgb,
            other => other,
        }
    }

    /// Whether pixels have an alpha channel.
    #[must_use]
    pub const fn has_alpha(self) -> bool {
        matches!(self, Self::La | Self::Rgba)
    }

    /// Pillow's name of the mode.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bit => "1",
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

/// What matters more in making a PNG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Time.
    #[default]
    Fast,
    /// Size.
    Small,
}

/// How a media file is encoded. `jpg` and `jpeg` are one encoding; the word that was given stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileType {
    /// Portable Network Graphics: lossless.
    Png,
    /// JPEG: lossy, without alpha.
    Jpg,
    /// The same under its other name.
    Jpeg,
    /// Windows bitmap: lossless, not compressed.
    Bmp,
    /// WebP; ours are lossless.
    Webp,
    /// Only of files that are kept as they are.
    Gif,
    /// Only of files that are kept as they are.
    Tiff,
}

impl FileType {
    /// The extension, and W&B's `format`.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpg => "jpg",
            Self::Jpeg => "jpeg",
            Self::Bmp => "bmp",
            Self::Webp => "webp",
            Self::Gif => "gif",
            Self::Tiff => "tiff",
        }
    }

    /// Whether pixels can be encoded so here.
    #[must_use]
    pub const fn is_made(self) -> bool {
        !matches!(self, Self::Gif | Self::Tiff)
    }

    /// Whether pictures of this mode can be encoded so.
    #[must_use]
    pub const fn holds(self, mode: ColorMode) -> bool {
        match self {
            Self::Png => true,
            Self::Jpg | Self::Jpeg => matches!(mode, ColorMode::L | ColorMode::Rgb),
            Self::Bmp | Self::Webp => {
                matches!(mode, ColorMode::L | ColorMode::Rgb | ColorMode::Rgba)
            }
            Self::Gif | Self::Tiff => false,
        }
    }

    /// The most pixels of a side: JPEG's and WebP's own limits.
    #[must_use]
    pub const fn side_max(self) -> u32 {
        match self {
            Self::Jpg | Self::Jpeg => 65_500,
            Self::Webp => 16_383,
            _ => u32::MAX,
        }
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
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
    /// \[0, 1\] × 65535, of 16-bit pictures.
    X65535,
    /// \[−1, 1\] shifted and scaled to \[0, 255\].
    Sym,
    /// The data's own minimum and maximum to 0 and 255.
    Stretch,
    /// Clipped to \[0, 255\]; to \[0, 65535\] in 16-bit pictures.
    Clip,
    /// The low 8 bits.
    Wrap,
    /// Bytes as they are.
    None,
    /// An explicit `range` to \[0, 255\], or to \[0, 65535\].
    Range,
}

/// How the values of one channel are drawn in colour. The names are matplotlib's, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are matplotlib's")]
pub enum Colormap {
    Gray,
    Viridis,
    Magma,
    Inferno,
    Plasma,
    Cividis,
    Turbo,
    Cubehelix,
    Blues,
    Greens,
    Greys,
    Oranges,
    Purples,
    Reds,
    Spectral,
    RdBu,
    RdYlBu,
    RdYlGn,
    PiYg,
    PrGn,
    BrBg,
    PuOr,
}

/// A colour: red, green, blue. Written `#rrggbb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rgb(pub [u8; 3]);

impl TryFrom<String> for Rgb {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_prefix('#').filter(|digits| {
            digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let [_, r, g, b] = value.map(u32::to_be_bytes).ok_or_else(|| {
            let got: String = text.chars().take(32).collect();
            format!("got {got:?}, want a colour such as \"#ff00ff\"")
        })?;
        Ok(Self([r, g, b]))
    }
}

impl From<Rgb> for String {
    fn from(Rgb([r, g, b]): Rgb) -> Self {
        format!("#{r:02x}{g:02x}{b:02x}")
    }
}
