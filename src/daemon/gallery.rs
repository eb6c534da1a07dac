//! The gallery, if the configuration has one.

use anyhow::Context;

use crate::config::{Config, GalleryConfig, GalleryListen, InEffect};
use crate::control::protocol::GalleryPlace;
use crate::gallery::{self, CODE_AGE_MAX, Gallery, GalleryOf, RunningGallery};
use crate::ingest::Shared;
use crate::store::Reader;

/// Says where the gallery is, with a new login code.
pub(super) type Place = Box<dyn Fn() -> Result<GalleryPlace, String> + Send + Sync>;

/// The gallery's socket. Until it is opened, the answer is that the daemon is starting.
pub(super) struct Door {
    place: GalleryListen,
    needs_login: bool,
    running: RunningGallery,
}

impl Door {
    /// Binds the socket, if the configuration has one.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(super) async fn bind(config: &GalleryConfig) -> anyhow::Result<Option<Self>> {
        let Some(listen) = &config.listen else { return Ok(None) };
        let context = || format!("gallery.listen {listen}");
        let listening = gallery::bind(listen, config).await.with_context(context)?;
        let (place, needs_login) = (listening.place(), listening.needs_login());
        tracing::info!(listen = %place, "gallery is served");
        let running = gallery::serve(listening).with_context(context)?;
        Ok(Some(Self { place, needs_login, running }))
    }

    /// Answers for a store from now on.
    ///
    /// # Errors
    /// If the token of programs cannot be had.
    fn open(
        mut self,
        config: &Config,
        in_effect: InEffect,
        reader: &Reader,
        shared: &Shared,
    ) -> anyhow::Result<(RunningGallery, Place)> {
        let (pace, free_bytes_min) = (shared.pace.clone(), shared.free_bytes_min.clone());
        let (of, settings) = (GalleryOf::Store(reader.clone()), config.boot.gallery.clone());
        let Self { place, needs_login, .. } = self;
        let gallery =
            Gallery::new(of, settings, in_effect, pace, free_bytes_min, None, needs_login);
        let gallery = gallery.context("gallery")?;
        self.running.open(&gallery);
        let place = move || {
            let code = needs_login.then(|| gallery.login_code(Some(CODE_AGE_MAX))).transpose();
            let code = code.map_err(|error| error.to_string())?;
            Ok(GalleryPlace { listen: Some(place.to_string()), code })
        };
        Ok((self.running, Box::new(place)))
    }
}

/// Answers for a store from now on, if there is a door. Also returns what says where the gallery is.
///
/// # Errors
/// As [`Door::open`].
pub(super) fn open(
    door: Option<Door>,
    config: &Config,
    in_effect: InEffect,
    reader: &Reader,
    shared: &Shared,
) -> anyhow::Result<(Option<RunningGallery>, Place)> {
    let Some(door) = door else {
        return Ok((None, Box::new(|| Ok(GalleryPlace { listen: None, code: None }))));
    };
    let (running, place) = door.open(config, in_effect, reader, shared)?;
    Ok((Some(running), place))
}
