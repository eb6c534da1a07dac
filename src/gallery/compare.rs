//! `/api/v1/compare` and `/api/v1/compare.png`: how two items differ. *A* is the reference.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::answer::{DependsOn, json};
use super::api::{Comparison, Differences};
use super::develop::png;
use super::files::media_headers;
use super::params::{Params, Place};
use super::problem::Failure;
use super::shown::{Shown, check_memory};
use super::{Gallery, Shared};
use crate::compare::{self, MapKind, difference_map};
use crate::media::Colormap;
use crate::render::{drawn, fitted};
use crate::values::{Region, Values};

/// The longest side of a map that a request may ask for.
const SIZE_MAX: u32 = 65_500;

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/api/v1/compare", get(figures)).route("/api/v1/compare.png", get(map))
}

/// The items that a request compares.
struct Pair {
    a: Place,
    b: Place,
    /// The greatest difference that is possible.
    peak: Option<f64>,
}

impl Pair {
    fn new(params: &mut Params) -> Result<Self, Failure> {
        let (a, b) = (params.nested_place("a")?, params.nested_place("b")?);
        Ok(Self { a, b, peak: params.number("peak", f64::MIN_POSITIVE..=f64::MAX)? })
    }

    /// Opens both items.
    fn open(&self, shared: &Shared) -> Result<Opened, Failure> {
        let (a, b) = (Shown::open(shared, &self.a)?, Shown::open(shared, &self.b)?);
        let span = || a.span().map(|(low, high)| high - low);
        let peak = self.peak.map_or_else(span, Ok)?;
        Ok(Opened { a, b, peak, memory_bytes: shared.memory_bytes() })
    }
}

/// Two items that are compared.
struct Opened {
    a: Shown,
    b: Shown,
    peak: f64,
    memory_bytes: u64,
}

impl Opened {
    /// Why the items are not compared, if they are not.
    fn mismatch(&self) -> Option<String> {
        let (a, b) = (self.a.size(), self.b.size());
        (a != b).then(|| {
            format!(
                "the images have other sizes or channels, and nothing is resampled: {} × {} pixels of {} channels, \
                 and {} × {} of {}",
                a[1], a[0], a[2], b[1], b[0], b[2]
            )
        })
    }

    /// Reads the values of both. `beside` is the memory that a pixel takes beside them, `afterwards` that which it
    /// takes once they are gone, in bytes.
    fn values(&self, beside: u64, afterwards: u64) -> Result<(Values, Values), Failure> {
        let [height, width, _] = self.a.size();
        let n_bytes = self.a.n_bytes(self.a.size()).saturating_add(self.b.n_bytes(self.b.size()));
        let of_pixels = |each: u64| width.saturating_mul(height).saturating_mul(each);
        let needed = n_bytes.saturating_add(of_pixels(beside)).max(of_pixels(afterwards));
        check_memory(needed, self.memory_bytes, "to compare the images")?;
        let whole = Region::whole(width, height);
        Ok((self.a.values(whole)?, self.b.values(whole)?))
    }
}

async fn figures(
    State(gallery): State<Gallery>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let pair = Pair::new(&mut params)?;
    params.finish()?;
    let made = gallery.make(move |shared| {
        let opened = pair.open(shared)?;
        let peak = opened.peak;
        let proofs = [opened.a.proof(), opened.b.proof()];
        if let Some(reason) = opened.mismatch() {
            let reason = Some(reason);
            return Ok(Comparison { reason, peak, proofs, whole: None, channels: Vec::new() });
        }
        let (a, b) = opened.values(0, 0)?;
        let compared = compare::compare(&a, &b, peak).map_err(Failure::internal)?;
        let channels = compared.channels.iter().map(differences).collect();
        let whole = Some(differences(&compared.whole));
        Ok(Comparison { reason: None, peak, proofs, whole, channels })
    });
    let made = made.await?;
    json(&gallery, &headers, DependsOn::More, |_| Ok(made)).await
}

fn differences(of: &compare::Differences) -> Differences {
    let compare::Differences { mse, mae, max, at, psnr, ssim, n_finite, n_other } = *of;
    let at = at.map(|at| at.map(|n| u32::try_from(n).unwrap_or(u32::MAX)));
    Differences { mse, mae, max, at, psnr, ssim, n_finite, n_other }
}

/// What a request says of a map.
struct WantedMap {
    kind: MapKind,
    low: Option<f64>,
    high: Option<f64>,
    colormap: Option<Colormap>,
    size: Option<u32>,
}

impl WantedMap {
    fn new(params: &mut Params) -> Result<Self, Failure> {
        let kinds = MapKind::ALL.map(|kind| (kind.name().to_owned(), kind));
        Ok(Self {
            kind: params.choice("kind", kinds)?.unwrap_or(MapKind::Absolute),
            low: params.number("low", f64::MIN..=f64::MAX)?,
            high: params.number("high", f64::MIN..=f64::MAX)?,
            colormap: params.colormap()?,
            size: params.number("size", 1..=SIZE_MAX)?,
        })
    }

    /// The range of a map with these extremes: from 0 to the greatest difference; of a signed one, with 0 in the
    /// middle; of similarity, from 0 to 1.
    fn range(&self, extent: Option<(f64, f64)>) -> Result<(f64, f64), Failure> {
        let (min, max) = extent.unwrap_or((0.0, 0.0));
        let far = max.max(-min);
        let far = if far > 0.0 { far } else { 1.0 };
        let (low, high) = match self.kind {
            MapKind::Absolute | MapKind::Relative | MapKind::Squared => (0.0, far),
            MapKind::Signed => (-far, far),
            MapKind::Ssim => (0.0, 1.0),
        };
        let (low, high) = (self.low.unwrap_or(low), self.high.unwrap_or(high));
        if low < high {
            return Ok((low, high));
        }
        let what = format!("\"low\" is {low} and \"high\" is {high}: want low to be the lesser");
        Err(Failure::bad_parameter(what))
    }

    fn colormap(&self) -> Colormap {
        let usual = if self.kind == MapKind::Signed { Colormap::RdBu } else { Colormap::Magma };
        self.colormap.unwrap_or(usual)
    }
}

async fn map(State(gallery): State<Gallery>, mut params: Params) -> Result<Response, Failure> {
    let (pair, wanted) = (Pair::new(&mut params)?, WantedMap::new(&mut params)?);
    params.finish()?;
    gallery
        .make(move |shared| {
            let opened = pair.open(shared)?;
            let cannot = |reason: String| {
                let title = "the images cannot be compared";
                Failure::new(StatusCode::CONFLICT, "not-comparable", title, reason)
            };
            if let Some(reason) = opened.mismatch() {
                return Err(cannot(reason));
            }
            // A map of f32; then that map, its colors and the file.
            let (a, b) = opened.values(4, 4 + 3 + 3)?;
            let map =
                difference_map(&a, &b, wanted.kind, opened.peak).map_err(Failure::internal)?;
            drop((a, b));
            let map = map.ok_or_else(|| {
                cannot("SSIM takes images of 11 × 11 pixels or more, and a peak above 0".to_owned())
            })?;
            let range = wanted.range(map.extent())?;
            let pixels = drawn(&map.values, [map.width, map.height], range, wanted.colormap());
            let pixels = fitted(pixels, wanted.size.unwrap_or(u32::MAX));
            let cache = (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
            Ok((media_headers("image/png"), [cache], png(&pixels)?).into_response())
        })
        .await
}
