//! `safelight gallery`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use super::access::{GallerySource, StoreAccess};
use super::args::{Common, GalleryArgs};
use super::exit::ExitCode;
use super::fleet::{no_manifests, open};
use super::json::{self, GalleryAddress};
use crate::config::{Config, GalleryListen, InEffect};
use crate::control::protocol::GalleryPlace;
use crate::gallery::{self, Gallery, GalleryOf};
use crate::pace::Pace;

/// The port at the other end of `ssh` for a unix socket.
const PORT: u16 = 7878;

pub(super) fn run(
    args: &GalleryArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    if let Some(from) = &args.fleet.from {
        let (fleet, config) = open(from, common)?;
        if fleet.list(Duration::ZERO)? == 0 {
            return Err(no_manifests(fleet.url()));
        }
        let fleet = Arc::new(fleet);
        let store = Path::new(fleet.url()).to_owned();
        serve(args, common, &config, GalleryOf::Fleet(fleet), &store, out)?;
        return Ok(ExitCode::Done);
    }
    let access = StoreAccess::open(common, "gallery")?;
    let config = access.config.clone();
    match access.gallery()? {
        GallerySource::Daemon(GalleryPlace { listen, code }) => {
            let store = config.boot.store.display();
            let listen = listen.ok_or_else(|| {
                anyhow!(
                    "the daemon of store {store} serves no gallery: set `listen` in [gallery] of its configuration, \
                     such as \"unix:/run/safelight/gallery.sock\", and restart it"
                )
            })?;
            let listen = listen.parse().map_err(|error: String| anyhow!(error))?;
            let store = config.boot.store;
            print(&address(store, &listen, code.as_deref(), None), None, common, out)?;
        }
        GallerySource::Files(reader, _folder) => {
            let store = config.boot.store.clone();
            serve(args, common, &config, GalleryOf::Store(reader), &store, out)?;
        }
    }
    Ok(ExitCode::Done)
}

/// What people read below the addresses of a gallery of a store.
const OF_STORE: &str =
    "It shows the store as it is now, until Ctrl-C. A daemon's gallery follows new images.";

/// What people read below the addresses of a gallery of a fleet.
const OF_FLEET: &str =
    "It shows what boxes have delivered, and looks for more while a page is open, until Ctrl-C.";

/// Serves a gallery until Ctrl-C. `store` is what it is called.
fn serve(
    args: &GalleryArgs,
    common: &Common,
    config: &Config,
    of: GalleryOf,
    store: &Path,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (as_of, note) = match of {
        GalleryOf::Store(_) => (Some(now.as_secs_f64()), OF_STORE),
        GalleryOf::Fleet(_) => (None, OF_FLEET),
    };
    let settings = config.boot.gallery.clone();
    let in_effect = InEffect::new(config.live.clone());
    let (pace, rate) = (Arc::new(Pace::default()), config.live.read_bytes_per_s_max);
    pace.set((rate > 0).then_some(rate));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = || format!("--listen {}", args.listen);
        let listening = gallery::bind(&args.listen, &settings).await.with_context(context)?;
        let (place, needs_login) = (listening.place(), listening.needs_login());
        let free_bytes_min = Arc::new(Mutex::new(config.live.free_bytes_min));
        let gallery =
            Gallery::new(of, settings, in_effect, pace, free_bytes_min, as_of, needs_login)?;
        let mut running = gallery::serve(listening).with_context(context)?;
        running.open(&gallery);
        let new_address = || -> anyhow::Result<GalleryAddress> {
            let code = needs_login.then(|| gallery.login_code(None)).transpose()?;
            Ok(address(store.to_owned(), &place, code.as_deref(), as_of))
        };
        print(&new_address()?, Some(note), common, out)?;
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                () = gallery.logged_in() => {
                    // The code is used up.
                    let address = new_address()?;
                    if common.json {
                        json::print(&address, out)?;
                    } else {
                        writeln!(out, "for another browser: {}", address.url)?;
                    }
                    out.flush()?;
                }
            }
        }
    })
}

/// How a gallery is reached.
fn address(
    store: PathBuf,
    listen: &GalleryListen,
    code: Option<&str>,
    as_of: Option<f64>,
) -> GalleryAddress {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (port, there) = match listen {
        GalleryListen::Tcp(address) => (address.port(), address.to_string()),
        GalleryListen::Unix(path) => (PORT, path.display().to_string()),
        GalleryListen::Systemd => (PORT, String::new()),
    };
    let login = code.map_or_else(String::new, |code| format!("?login={code}"));
    GalleryAddress {
        store,
        listen: listen.to_string(),
        url: format!("http://localhost:{port}/{login}"),
        ssh: format!("ssh -N -L {port}:{there} {host}"),
        as_of,
    }
}

/// Prints how a gallery is reached, and a note for people.
fn print(
    address: &GalleryAddress,
    note: Option<&str>,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if common.json {
        json::print(address, out)?;
        return Ok(out.flush()?);
    }
    let GalleryAddress { store, listen, url, ssh, .. } = address;
    let is_socket = listen.starts_with("unix:");
    writeln!(out, "gallery of {} on {listen}", store.display())?;
    if is_socket {
        writeln!(out, "on your machine, run:  {ssh}\nand open:              {url}")?;
    } else {
        writeln!(out, "open:                            {url}")?;
        writeln!(out, "from another machine, run first: {ssh}")?;
    }
    if let Some(note) = note {
        writeln!(out, "{note}")?;
    }
    Ok(out.flush()?)
}
