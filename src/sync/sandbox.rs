//! Troubles of targets that come from the sandbox of the systemd unit: waiting does not mend them.

use std::env;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;

use crate::config::sync::TargetConfig;

/// How such a trouble begins.
const BEGIN: &str = "the systemd unit forbids it";

/// What the operating system says, as the standard library prints it: `EROFS` and `EAFNOSUPPORT`.
const READ_ONLY: &str = "(os error 30)";
const NO_FAMILY: i32 = 97;

/// What the sandbox of a unit may forbid.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Forbidden {
    Network,
    Directory(PathBuf),
}

/// Says what in the systemd unit keeps a target away, if that is why `error` came.
pub(super) fn with_advice(error: String, target: &TargetConfig) -> String {
    // Set by systemd in each service.
    if env::var_os("INVOCATION_ID").is_none() {
        return error;
    }
    match forbidden(&error, target, is_network_forbidden) {
        Some(forbidden) => format!("{BEGIN}: {}: {error}", forbidden.advice()),
        None => error,
    }
}

/// Whether the sandbox of the unit is the trouble of a target.
pub(crate) fn is_forbidden(trouble: &str) -> bool {
    trouble.starts_with(BEGIN)
}

fn forbidden(
    error: &str,
    target: &TargetConfig,
    is_network_forbidden: impl Fn() -> bool,
) -> Option<Forbidden> {
    match target.directory() {
        Some(path) => error.contains(READ_ONLY).then_some(Forbidden::Directory(path)),
        None => is_network_forbidden().then_some(Forbidden::Network),
    }
}

impl Forbidden {
    fn advice(&self) -> String {
        match self {
            Self::Network => "the service has no network; to open it, install the drop-in safelight-network.conf as \
                              /etc/systemd/system/safelight.service.d/network.conf, then: systemctl daemon-reload && \
                              systemctl restart safelight"
                .to_owned(),
            Self::Directory(path) => format!(
                "the service may write only to its store; to open {0}, add ReadWritePaths={0} below [Service] with \
                 systemctl edit safelight, then: systemctl restart safelight",
                path.display()
            ),
        }
    }
}

/// Whether no socket of the internet can be made, as `RestrictAddressFamilies=AF_UNIX` has it.
fn is_network_forbidden() -> bool {
    let made = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    made.is_err_and(|error: io::Error| error.raw_os_error() == Some(NO_FAMILY))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn target(settings: &str) -> TargetConfig {
        let text = format!("[sync.t]\n{settings}");
        let config = parse(&text, Path::new("/x/s.toml"));
        config.unwrap_or_else(|error| panic!("{error}")).live.targets.remove(0).kind
    }

    #[test]
    fn the_sandbox_is_named_if_it_is_the_cause() {
        let mlflow = target("kind = \"mlflow\"\nurl = \"http://10.0.0.1:5000\"");
        let files = target("kind = \"object_store\"\nurl = \"file:///data/media\"");
        let read_only = "cannot write /data/media: Read-only file system (os error 30)";
        let directory = || Some(Forbidden::Directory("/data/media".into()));
        assert_eq!(forbidden("refused", &mlflow, || true), Some(Forbidden::Network));
        assert_eq!(forbidden("refused", &mlflow, || false), None);
        assert_eq!(forbidden(read_only, &files, || true), directory());
        assert_eq!(forbidden("Permission denied (os error 13)", &files, || true), None);
        assert!(!is_network_forbidden());
        for forbidden in [Forbidden::Network, Forbidden::Directory("/data/media".into())] {
            let advice = forbidden.advice();
            assert!(advice.contains("systemctl restart safelight"), "{advice}");
        }
        assert!(is_forbidden(&format!("{BEGIN}: x: y")) && !is_forbidden("refused"));
    }
}
