//! Kinds of images: mode, file type, format, profile, rule, colormap.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of picture: its channels and their bits. The names are Pillow's modes.
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
    /// Gray, 16 bit. Under a `wandb-*` profile the values are 0 to 255.
    #[serde(rename = "I;16")]
    I16,
}

impl ColorMode {
    /// Returns the samples of one pixel: 1 to 4.
    #[must_use]
    pub const fn n_channels(self) -> usize {
        match self {
            Self::Bit | Self::L | Self::I16 => 1,
            Self::La => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Returns the bytes of one pixel in memory: 1 to 4. A pixel of mode `1` has one byte, 0 or 255.
    #[must_use]
    pub const fn pixel_size(self) -> usize {
        match self {
            Self::I16 => 2,
            _ => self.n_channels(),
        }
    }

    /// Returns the 8-bit mode with `n_channels` channels. `None` unless there are 1 to 4.
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

    /// Returns the mode without its alpha channel.
    #[must_use]
    pub const fn opaque(self) -> Self {
        match self {
            Self::La => Self::L,
            Self::Rgba => Self::Rgb,
            other => other,
        }
    }

    /// Whether there is an alpha channel.
    #[must_use]
    pub const fn has_alpha(self) -> bool {
        matches!(self, Self::La | Self::Rgba)
    }

    /// Returns Pillow's name of the mode.
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

/// What matters more in encoding a PNG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Time.
    #[default]
    Fast,
    /// Size.
    Small,
}

/// The encoding of a media file. `jpg` and `jpeg` are the same encoding; the extension is kept as given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileType {
    /// Portable Network Graphics: lossless.
    Png,
    /// JPEG: lossy, without alpha.
    Jpg,
    /// JPEG under its other extension.
    Jpeg,
    /// Windows bitmap: lossless, not compressed.
    Bmp,
    /// WebP. Safelight encodes it lossless.
    Webp,
    /// GIF: only for files that are kept unchanged.
    Gif,
    /// TIFF: only for files that are kept unchanged.
    Tiff,
}

impl FileType {
    /// Returns the extension, which is W&B's `format`.
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

    /// Whether Safelight can encode this file type.
    #[must_use]
    pub const fn is_made(self) -> bool {
        !matches!(self, Self::Gif | Self::Tiff)
    }

    /// Whether the file type can hold pictures of this mode.
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

    /// Returns the longest side in pixels that the file type allows.
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
    /// Returns the name, such as `HWC`.
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

    /// Returns the number of axes: 2 to 4.
    #[must_use]
    pub const fn rank(self) -> usize {
        self.name().len()
    }

    /// Returns the format with a batch axis in front. `None` if there is one already.
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

/// Whose rule converts values to bytes. Recorded with each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Profile {
    /// Safelight's own: chosen by the element type and the finite values.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// wandb 0.10 to 0.19 (`seed` in `docs/spec/image.md`).
    #[serde(rename = "wandb-0.10")]
    Wandb010,
    /// wandb 0.20.1 to 0.28 (`norm` there).
    #[serde(rename = "wandb-0.20")]
    Wandb020,
    /// wandb 0.29 and later (`raw` there).
    #[serde(rename = "wandb-0.29")]
    Wandb029,
}

/// The rule by which the values of an image were converted to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// \[0, 1\] × 255.
    X255,
    /// \[0, 1\] × 65535, for 16-bit pictures.
    X65535,
    /// \[−1, 1\] shifted and scaled to \[0, 255\].
    Sym,
    /// The picture's minimum and maximum become 0 and 255.
    Stretch,
    /// Clipped to \[0, 255\], or to \[0, 65535\] in 16-bit pictures.
    Clip,
    /// The low 8 bits of the value.
    Wrap,
    /// Bytes unchanged.
    None,
    /// An explicit `range`, mapped to \[0, 255\] or \[0, 65535\].
    Range,
}

impl Rule {
    /// All rules, in the order of the list above.
    pub const ALL: [Self; 8] = [
        Self::X255,
        Self::X65535,
        Self::Sym,
        Self::Stretch,
        Self::Clip,
        Self::Wrap,
        Self::None,
        Self::Range,
    ];

    /// The name as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X255 => "x255",
            Self::X65535 => "x65535",
            Self::Sym => "sym",
            Self::Stretch => "stretch",
            Self::Clip => "clip",
            Self::Wrap => "wrap",
            Self::None => "none",
            Self::Range => "range",
        }
    }

    /// What the rule does, for people.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::X255 => "values of 0 to 1, times 255",
            Self::X65535 => "values of 0 to 1, times 65535",
            Self::Sym => "values of -1 to 1, moved and scaled to 0..255",
            Self::Stretch => "the picture's own minimum and maximum become 0 and 255",
            Self::Clip => "values clipped to 0..255, or to 0..65535 in mode I;16",
            Self::Wrap => "the low 8 bits of each value",
            Self::None => "bytes as they are",
            Self::Range => "the given range becomes 0..255, or 0..65535 in mode I;16",
        }
    }
}

/// A colormap for pictures of one channel. The names are matplotlib's, in lower case.
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

impl Colormap {
    /// All colormaps, in the order of the list above.
    pub const ALL: [Self; 22] = [
        Self::Gray,
        Self::Viridis,
        Self::Magma,
        Self::Inferno,
        Self::Plasma,
        Self::Cividis,
        Self::Turbo,
        Self::Cubehelix,
        Self::Blues,
        Self::Greens,
        Self::Greys,
        Self::Oranges,
        Self::Purples,
        Self::Reds,
        Self::Spectral,
        Self::RdBu,
        Self::RdYlBu,
        Self::RdYlGn,
        Self::PiYg,
        Self::PrGn,
        Self::BrBg,
        Self::PuOr,
    ];
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
