//! Options of making an image, set by a record or by a rule of the configuration.

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess};

use super::lenient::Whole;
use super::non_finite::Number;
use crate::media::{ColorMode, Colormap, Compression, DataFormat, FileType, Profile, Rgb};

/// Declares the options once: the fields, how each is parsed, and how two sets are merged.
macro_rules! image_options {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty, $read:literal;)+) => {
        /// How to make an image, as a record or a rule sets it. The record wins over the rules, a later
        /// rule over an earlier one. `None` for a field that is not set.
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        pub struct ImageOptions {
            $($(#[doc = $doc])+ pub $name: Option<$type>,)+
        }

        impl ImageOptions {
            /// Names of the fields.
            pub const FIELDS: &[&str] = &[$(stringify!($name)),+];

            /// The fields' names and doc comments, for a reference.
            pub const DOCS: &[(&str, &str)] = &[$((stringify!($name), concat!($($doc),+))),+];

            /// Merges two sets of options: fields that are `None` are taken from `base`.
            #[must_use]
            pub fn over(self, base: Self) -> Self {
                Self { $($name: self.$name.or(base.$name),)+ }
            }

            /// Parses the next value of `map` into the field `name`. Returns whether there is such a field.
            ///
            /// # Errors
            /// If the value is not valid for the field.
            pub fn read_field<'de, A: MapAccess<'de>>(
                &mut self,
                name: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                match name {
                    $(stringify!($name) => {
                        #[derive(Deserialize)]
                        #[serde(transparent)]
                        struct Read(#[serde(deserialize_with = $read)] Option<$type>);
                        self.$name = map.next_value::<Read>()?.0;
                    })+
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

image_options! {
    /// Which rule converts values to bytes. `"auto"`: bool becomes 0 and 255, integers are clipped to 0..255, floats
    /// go by their finite values (within \[0, 1\] times 255, within \[-1, 1\] shifted and scaled, else clipped),
    /// one rule for all images of a batch.
    /// `"wandb-0.10"`, `"wandb-0.20"`, `"wandb-0.29"`: exactly as `wandb.Image` of those releases.
    profile: Profile, "Option::deserialize";
    /// The values that become 0 and 255 (65535 in mode `I;16`), whatever the profile: `[low, high]`, low < high.
    range: (f64, f64), "range";
    /// Which axis of the tensor is which: `HW`, `HWC`, `CHW`, `NHW`, `NHWC` or `NCHW`. If unset, it is guessed.
    format: DataFormat, "Option::deserialize";
    /// The kind of image: `L`, `LA`, `RGB`, `RGBA`, `1` (black and white, dithered) or `I;16` (gray of 16 bits).
    mode: ColorMode, "mode";
    /// How images are encoded. WebP is lossless here.
    file_type: FileType, "file_type";
    /// The quality of a JPEG, 1 to 100.
    quality: u8, "quality";
    /// Whether a PNG is made in little time or made small. `"fast"`: photographs as large as Pillow's within a few
    /// hundredths, in a fiftieth of its time. `"small"`: on average no larger than Pillow's, in a third to a thirtieth of
    /// its time.
    compression: Compression, "Option::deserialize";
    /// Whether a PNG of at most 256 colours has indexed colours, which is far smaller. Readers then see mode `P`, with
    /// the same pixels after conversion.
    palette: bool, "Option::deserialize";
    /// The colours of one-channel images, by the names of matplotlib in lower case.
    colormap: Colormap, "Option::deserialize";
    /// The colour of pixels that are NaN. If unset, they are drawn as 0.
    nan_color: Rgb, "Option::deserialize";
    /// What happens to an alpha channel: `"keep"`, `"drop"`, or `"composite"` the image onto `background`.
    alpha: Alpha, "Option::deserialize";
    /// The colour that `composite` puts an image on. If unset: white.
    background: Rgb, "Option::deserialize";
    /// The longest side, in pixels. Larger images are scaled down.
    downscale: u32, "downscale";
    /// Whether a batch makes one contact sheet instead of an image for each of its pictures: true, false, or how many
    /// pictures are in a row and how many pixels are between them.
    grid: GridOption, "grid";
}

/// What to do with an alpha channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alpha {
    /// Keep it if the file type can hold it.
    Keep,
    /// Drop it and leave the other channels unchanged.
    Drop,
    /// Composite the picture onto the background colour.
    Composite,
}

/// Whether a batch makes one contact sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GridOption {
    /// No: one image for each picture.
    No,
    /// Yes: one image, arranged like this.
    Yes(Grid),
}

/// The arrangement of a contact sheet, with the parameters of torchvision's `make_grid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grid {
    /// Pictures in a row, at least 1.
    #[serde(deserialize_with = "whole")]
    pub nrow: u32,
    /// Pixels between and around pictures: 0 to 1024.
    #[serde(deserialize_with = "whole")]
    pub padding: u32,
}

impl Default for Grid {
    /// Returns torchvision's defaults: 8 pictures in a row, 2 pixels of padding.
    fn default() -> Self {
        Self { nrow: 8, padding: 2 }
    }
}

fn range<'de, D: Deserializer<'de>>(from: D) -> Result<Option<(f64, f64)>, D::Error> {
    let Some([Number(lo), Number(hi)]) = Option::<[Number; 2]>::deserialize(from)? else {
        return Ok(None);
    };
    if lo.is_finite() && hi.is_finite() && lo < hi && (hi - lo).is_finite() {
        Ok(Some((lo, hi)))
    } else {
        Err(de::Error::custom(format!("got [{lo}, {hi}], want [low, high], finite, low < high")))
    }
}

/// Empty text counts as not set, as in wandb.
fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ColorMode>, D::Error> {
    let name = Option::<String>::deserialize(from)?.filter(|name| !name.is_empty());
    name.map(|name| name.parse().map_err(de::Error::custom)).transpose()
}

/// Empty text counts as not set, as in wandb.
fn file_type<'de, D: Deserializer<'de>>(from: D) -> Result<Option<FileType>, D::Error> {
    let Some(name) = Option::<String>::deserialize(from)?.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let known = FileType::deserialize(de::value::StrDeserializer::<de::value::Error>::new(&name));
    known.ok().filter(|file_type| file_type.is_made()).map(Some).ok_or_else(|| {
        de::Error::custom(format!(
            "got {name:?}, want \"png\", \"jpg\", \"jpeg\", \"bmp\" or \"webp\""
        ))
    })
}

fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    Whole::deserialize(from).map(|Whole(number)| number)
}

fn quality<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u8>, D::Error> {
    match Option::<Whole<u8>>::deserialize(from)?.map(|Whole(quality)| quality) {
        Some(got @ (0 | 101..)) => Err(de::Error::custom(format!("got {got}, want 1 to 100"))),
        quality => Ok(quality),
    }
}

fn downscale<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    match Option::<Whole<u32>>::deserialize(from)?.map(|Whole(side)| side) {
        Some(0) => Err(de::Error::custom("got 0, want the longest side in pixels, from 1 on")),
        side => Ok(side),
    }
}

/// Parses `true`, `false` or `{"nrow": 8, "padding": 2}`, in which both fields are optional.
fn grid<'de, D: Deserializer<'de>>(from: D) -> Result<Option<GridOption>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "want true, false or {\"nrow\": 8, \"padding\": 2}")]
    enum Given {
        Whether(bool),
        How(Grid),
    }
    match Option::<Given>::deserialize(from)? {
        None => Ok(None),
        Some(Given::Whether(false)) => Ok(Some(GridOption::No)),
        Some(Given::Whether(true)) => Ok(Some(GridOption::Yes(Grid::default()))),
        Some(Given::How(Grid { nrow, padding })) if nrow == 0 || padding > 1024 => {
            let got = format!("got nrow {nrow} and padding {padding}");
            Err(de::Error::custom(format!("{got}, want nrow from 1 on, padding 0 to 1024")))
        }
        Some(Given::How(grid)) => Ok(Some(GridOption::Yes(grid))),
    }
}
