//! `/api/v1/values.npy` and `/api/v1/histogram`: the values of an item.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::answer::{DependsOn, json};
use super::api::{ChannelHistogram, Histogram};
use super::limits::LIMITS;
use super::params::Params;
use super::problem::Failure;
use super::shown::Shown;
use super::{Gallery, Shared};
use crate::compare::{self, ChannelCounts, Extremes};

/// Bins of a histogram, unless a request says otherwise.
const BINS: usize = 256;

/// The most bins that a request may ask for.
const BINS_MAX: usize = 4096;

/// Bins of the whole span, by which percentiles are found.
const FINE_BINS: usize = 4096;

pub(super) fn routes() -> Router<Gallery> {
    Router::new()
        .route("/api/v1/values.npy", get(values))
        .route("/api/v1/histogram", get(histogram))
}

/// Checks that values of dumps may be served.
///
/// # Errors
/// 403 if `gallery.dumps` is false.
fn check_dumps(shared: &Shared) -> Result<(), Failure> {
    if shared.config.dumps { Ok(()) } else { Err(Failure::dumps_withheld()) }
}

async fn values(State(gallery): State<Gallery>, mut params: Params) -> Result<Response, Failure> {
    let (place, part) = (params.place()?, params.part()?);
    let every = params.number("every", 1..=u32::MAX)?.unwrap_or(1);
    params.finish()?;
    gallery
        .make(move |shared| {
            check_dumps(shared)?;
            let shown = Shown::open(shared, &place)?;
            let [height, width, n_channels] = shown.size();
            let region = part.of(width, height, every.into())?;
            let allowed = u64::from(LIMITS.answer_bytes_max);
            // The header of the file takes less than 256 bytes.
            let n_bytes = |every: u64| {
                let (rows, columns) = (region.height.div_ceil(every), region.width.div_ceil(every));
                shown.n_bytes([rows, columns, n_channels]).saturating_add(256)
            };
            let needed = n_bytes(every.into());
            if needed > allowed {
                let least = (every..=u32::MAX).find(|&every| n_bytes(every.into()) <= allowed);
                let failure = Failure::too_large(needed, allowed, "the part of the values");
                return Err(failure.with_every(least.unwrap_or(u32::MAX)));
            }
            let file = shown.values(region)?.to_npy();
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
                shown.proof_header(),
            ];
            Ok((headers, file).into_response())
        })
        .await
}

async fn histogram(
    State(gallery): State<Gallery>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let place = params.place()?;
    let n_bins = params.number("bins", 1..=BINS_MAX)?.unwrap_or(BINS);
    let low = params.number("low", f64::MIN..=f64::MAX)?;
    let high = params.number("high", f64::MIN..=f64::MAX)?;
    params.finish()?;
    let made = gallery.make(move |shared| {
        check_dumps(shared)?;
        let shown = Shown::open(shared, &place)?;
        let histogram = count(&shown, n_bins, low, high)?;
        shown.check_unchanged()?;
        Ok((histogram, shown.proof_header()))
    });
    let (histogram, (name, proof)) = made.await?;
    let mut response = json(&gallery, &headers, DependsOn::More, |_| Ok(histogram)).await?;
    response.headers_mut().insert(name, proof);
    Ok(response)
}

/// Counts values in two passes: the extremes first.
fn count(
    shown: &Shown,
    n_bins: usize,
    low: Option<f64>,
    high: Option<f64>,
) -> Result<Histogram, Failure> {
    let [.., n_channels] = shown.size();
    let n_channels = usize::try_from(n_channels).map_err(Failure::internal)?;
    let mut extremes = Extremes::new(n_channels);
    shown.each_value(|channel, value| extremes.see(channel, value))?;
    let (min, max) = extremes.whole().unwrap_or((0.0, 1.0));
    let (low, high) = (low.unwrap_or(min), high.unwrap_or(max));
    if low > high {
        let what = format!("\"low\" is {low} and \"high\" is {high}: want low to be the lesser");
        return Err(Failure::bad_parameter(what));
    }
    let mut counts = compare::Histogram::new(n_channels, n_bins, low, high);
    let mut fine = compare::Histogram::new(1, FINE_BINS, min, max);
    shown.each_value(|channel, value| {
        counts.see(channel, value);
        fine.see(0, value);
    })?;
    let within = |edge: f64| edge.clamp(min, max);
    let percentiles = fine.quantile(0.01).zip(fine.quantile(0.99));
    let (low, high) = counts.range();
    let channels = counts.into_channels().into_iter().zip(extremes.channels());
    let channels = channels.map(|(counts, extremes)| {
        let ChannelCounts { counts, nan, positive_inf, negative_inf, below, above } = counts;
        let (min, max) = extremes.unzip();
        ChannelHistogram { counts, nan, positive_inf, negative_inf, below, above, min, max }
    });
    Ok(Histogram {
        low,
        high,
        channels: channels.collect(),
        proof: shown.proof(),
        percentiles: percentiles.map(|(low, high)| [within(low), within(high)]),
    })
}
