//! `/api/v1/develop.png`: a picture made from the values of an item, by the rule of the stored one or by another. Held
//! items are previewed with it.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Gallery;
use super::files::media_headers;
use super::params::{Params, Part};
use super::problem::Failure;
use super::shown::Shown;
use crate::convert::Pixels;
use crate::encode::{Encoding, encode};
use crate::media::{Colormap, Rgb};
use crate::render::{Develop, cropped, fitted};

/// The longest side that a request may ask for. A larger one asks for the whole size.
const SIZE_MAX: u32 = 65_500;

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/api/v1/develop.png", get(develop))
}

/// What a request says of the picture. `None`: as the stored one.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    low: Option<f64>,
    high: Option<f64>,
    gamma: Option<f64>,
    colormap: Option<Colormap>,
    channel: Option<u64>,
    nan: Option<Rgb>,
    marks: bool,
    part: Part,
    /// The longest side of the picture.
    size: Option<u32>,
}

impl Wanted {
    fn new(params: &mut Params) -> Result<Self, Failure> {
        let nan = params.optional("nan")?.map(Rgb::try_from).transpose();
        Ok(Self {
            low: params.number("low", f64::MIN..=f64::MAX)?,
            high: params.number("high", f64::MIN..=f64::MAX)?,
            gamma: params.number("gamma", 0.01..=100.0)?,
            colormap: params.colormap()?,
            channel: params.number("channel", 0..=3)?,
            nan: nan.map_err(|error| Failure::bad_parameter(format!("\"nan\": {error}")))?,
            marks: params.number("marks", 0..=1)?.unwrap_or(0u8) == 1,
            part: params.part()?,
            size: params.number("size", 1..=SIZE_MAX)?,
        })
    }

    /// Whether the picture is made as the stored one.
    fn is_as_stored(&self) -> bool {
        let Self { low, high, gamma, colormap, channel, nan, marks, .. } = self;
        low.or(*high).or(*gamma).is_none()
            && (colormap.is_none() && channel.is_none() && nan.is_none() && !marks)
    }
}

async fn develop(State(gallery): State<Gallery>, mut params: Params) -> Result<Response, Failure> {
    let place = params.place()?;
    let wanted = Wanted::new(&mut params)?;
    params.finish()?;
    gallery
        .make(move |shared| {
            let shown = Shown::open(shared, &place)?;
            let proof = shown.proof_header();
            let pixels = pixels(shown, &wanted)?;
            let headers =
                [(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")), proof];
            Ok((media_headers("image/png"), headers, png(&pixels)?).into_response())
        })
        .await
}

/// Encodes a picture.
///
/// # Errors
/// 500 if that is not possible, which is a bug.
pub(super) fn png(pixels: &Pixels) -> Result<Vec<u8>, Failure> {
    encode(pixels, Encoding::default()).map(|image| image.bytes).map_err(Failure::internal)
}

fn pixels(shown: Shown, wanted: &Wanted) -> Result<Pixels, Failure> {
    let [height, width, n_channels] = shown.size();
    let whole = wanted.part.of(width, height, 1)?;
    let size = wanted.size.unwrap_or(u32::MAX);
    if wanted.is_as_stored() && shown.proof().is_some() {
        match shown.stored_pixels() {
            Ok(pixels) => {
                shown.check_unchanged()?;
                let is_whole = (whole.width, whole.height) == (width, height);
                // A downscaled image has other places.
                let is_cropped = !is_whole && u64::from(pixels.width) == width;
                let pixels = if is_cropped { cropped(pixels, whole) } else { pixels };
                return Ok(fitted(pixels, size));
            }
            // A part of it, or a smaller one, may take less memory.
            Err(failure) if failure.problem().needed.is_none() => return Err(failure),
            Err(_) => {}
        }
    }
    let (low, high) = match (wanted.low, wanted.high) {
        (Some(low), Some(high)) => (low, high),
        (low, high) => {
            let span = shown.span()?;
            (low.unwrap_or(span.0), high.unwrap_or(span.1))
        }
    };
    if low >= high {
        let what = format!("\"low\" is {low} and \"high\" is {high}: want low to be the lesser");
        return Err(Failure::bad_parameter(what));
    }
    if let Some(channel) = wanted.channel.filter(|&channel| channel >= n_channels) {
        let what = format!("got {channel} as \"channel\", the image has {n_channels}, from 0");
        return Err(Failure::bad_parameter(what));
    }
    // More pixels than wanted are read, and averaged, if the memory suffices.
    let longest = whole.width.max(whole.height);
    let most = longest.div_ceil(size.into());
    let every = (most / 2).max(shown.least_every(whole.width, whole.height)).max(1).min(most);
    let region = wanted.part.of(width, height, every)?;
    let part = shown.part(region, wanted.channel)?;
    let how = Develop {
        range: (low, high),
        gamma: wanted.gamma.unwrap_or(1.0),
        colormap: wanted.colormap,
        nan_color: wanted.nan,
        marks: wanted.marks,
    };
    let pixels = part.develop(&how)?;
    part.check_unchanged()?;
    Ok(fitted(pixels, size))
}
