//! `safelight gallery`.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use super::access::{GallerySource, StoreAccess};
use super::args::{Common, GalleryArgs};
use super::exit::ExitCode;
use super::json::{self, GalleryAddress};
use crate::config::{Config, GalleryListen, InEffect};
use crate::control::protocol::GalleryPlace;
use crate::gallery::{self, Gallery};
use crate::pace::Pace;
use crate::store::Reader;

/// The port at the other end of `ssh` for a unix socket.
const PORT: u16 = 7878;

pub(super) fn run(
    args: &GalleryArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
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
            print(&address(&config, &listen, code.as_deref(), None), common, out)?;
        }
        GallerySource::Files(reader, _folder) => serve(args, common, &config, reader, out)?,
    }
    Ok(ExitCode::Done)
}

/// Serves a gallery until Ctrl-C.
fn serve(
    args: &GalleryArgs,
    common: &Common,
    config: &Config,
    reader: Reader,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let as_of = Some(now.as_secs_f64());
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
            Gallery::new(reader, settings, in_effect, pace, free_bytes_min, as_of, needs_login)?;
        let mut running = gallery::serve(listening).with_context(context)?;
        running.open(&gallery);
        let new_address = || -> anyhow::Result<GalleryAddress> {
            let code = needs_login.then(|| gallery.login_code(None)).transpose()?;
            Ok(address(config, &place, code.as_deref(), as_of))
        };
        print(&new_address()?, common, out)?;
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
    config: &Config,
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
        store: config.boot.store.clone(),
        listen: listen.to_string(),
        url: format!("http://localhost:{port}/{login}"),
        ssh: format!("ssh -N -L {port}:{there} {host}"),
        as_of,
    }
}

fn print(address: &GalleryAddress, common: &Common, out: &mut impl Write) -> anyhow::Result<()> {
    if common.json {
        json::print(address, out)?;
        return Ok(out.flush()?);
    }
    let GalleryAddress { store, listen, url, ssh, as_of } = address;
    let is_socket = listen.starts_with("unix:");
    writeln!(out, "gallery of {} on {listen}", store.display())?;
    if is_socket {
        writeln!(out, "on your machine, run:  {ssh}\nand open:              {url}")?;
    } else {
        writeln!(out, "open:                            {url}")?;
        writeln!(out, "from another machine, run first: {ssh}")?;
    }
    if as_of.is_some() {
        writeln!(
            out,
            "It shows the store as it is now, until Ctrl-C. A daemon's gallery follows new images."
        )?;
    }
    Ok(out.flush()?)
}
