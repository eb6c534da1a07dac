//! `safelight health` and `safelight reload`: what only a daemon can answer.

use std::io::Write;

use anyhow::{Context, anyhow};
use hyper::Method;
use serde_json::json;

use super::{Common, Ending, printable};
use crate::control::client::{Client, ClientError};
use crate::control::protocol::{HEALTH_PATH, Health, RELOAD_PATH};

/// How the daemon of a configuration is.
pub(super) fn health(common: &Common, out: &mut impl Write) -> anyhow::Result<Ending> {
    let mut client = connect(common)?;
    let mut answer = String::new();
    let asked = client.get(HEALTH_PATH, |line| {
        answer.push_str(line);
        Ok::<_, ClientError>(())
    });
    match asked {
        // It says what is wrong.
        Err(ClientError::Refused(refusal)) => answer = refusal,
        result => result?,
    }
    let health: Health =
        serde_json::from_str(&answer).with_context(|| format!("the daemon answered {answer:?}"))?;
    if common.json {
        writeln!(out, "{}", serde_json::to_value(&health)?)?;
    } else if health.healthy {
        writeln!(out, "healthy")?;
    } else {
        for reason in &health.reasons {
            writeln!(out, "{}", printable(reason))?;
        }
    }
    Ok(if health.healthy { Ending::Done } else { Ending::Failed })
}

pub(super) fn reload(common: &Common, out: &mut impl Write) -> anyhow::Result<Ending> {
    connect(common)?.ask(&Method::POST, RELOAD_PATH, |_| Ok::<_, anyhow::Error>(()))?;
    if common.json {
        writeln!(out, "{}", json!({"reloaded": true}))?;
    } else {
        writeln!(out, "configuration is taken up")?;
    }
    Ok(Ending::Done)
}

fn connect(common: &Common) -> anyhow::Result<Client> {
    let (config, _) = common.config()?;
    common.daemon(&config).ok_or_else(|| {
        let (store, socket) = (config.boot.store.display(), config.boot.socket.display());
        anyhow!("no daemon answers for the store {store}, at {socket} or elsewhere")
    })
}
