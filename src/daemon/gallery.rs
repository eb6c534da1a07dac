//! The gallery, if the configuration has one.

use anyhow::Context;

use crate::config::{GalleryConfig, InEffect};
use crate::control::protocol::GalleryPlace;
use crate::gallery::{self, CODE_AGE_MAX, Gallery, RunningGallery};
use crate::ingest::Shared;
use crate::store::Reader;

/// Says where the gallery is, with a new login code.
type Place = Box<dyn Fn() -> Result<GalleryPlace, String> + Send + Sync>;

/// Starts the gallery.
///
/// # Errors
/// If its socket or its token cannot be had.
pub(super) async fn start(
    config: &GalleryConfig,
    in_effect: InEffect,
    reader: &Reader,
    shared: &Shared,
) -> anyhow::Result<(Option<RunningGallery>, Place)> {
    let Some(listen) = &config.listen else {
        return Ok((None, Box::new(|| Ok(GalleryPlace { listen: None, code: None }))));
    };
    let context = || format!("gallery.listen {listen}");
    let listening = gallery::bind(listen, config).await.with_context(context)?;
    let (place, needs_login) = (listening.place(), listening.needs_login());
    tracing::info!(listen = %place, "gallery is served");
    let (pace, free_bytes_min) = (shared.pace.clone(), shared.free_bytes_min.clone());
    let (reader, config) = (reader.clone(), config.clone());
    let gallery = Gallery::new(reader, config, in_effect, pace, free_bytes_min, None, needs_login)
        .context("gallery")?;
    let running = gallery::serve(listening, gallery.clone()).with_context(context)?;
    let place = move || {
        let code = needs_login.then(|| gallery.login_code(Some(CODE_AGE_MAX))).transpose();
        let code = code.map_err(|error| error.to_string())?;
        Ok(GalleryPlace { listen: Some(place.to_string()), code })
    };
    Ok((Some(running), Box::new(place)))
}
