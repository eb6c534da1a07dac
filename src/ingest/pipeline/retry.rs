//! Retries of what fails for a while: writing to a disk that is full, reading from a mount that stalls.

use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::progress::Progress;
use crate::decode::DecodeError;
use crate::pulse;

/// The pause before the first retry.
const RETRY_FIRST: Duration = Duration::from_millis(200);

/// The longest pause between two retries of a write.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How many times a failed read is retried before the dump is given back.
const READ_RETRIES_MAX: u32 = 5;

/// Repeats a write until it succeeds. Returns `None` if it fails while `stop` is set.
///
/// Status shows the error as long as the write fails. `what` says in a word or two what is written.
pub(super) fn write_until_stopped<T, E: Display>(
    what: &str,
    progress: &Progress,
    stop: &AtomicBool,
    mut write: impl FnMut() -> Result<T, E>,
) -> Option<T> {
    let mut delay = RETRY_FIRST;
    let mut attempt = 0u32;
    loop {
        pulse::beat();
        match write() {
            Ok(value) => {
                if attempt > 0 {
                    tracing::info!(what, attempt, "writing works again");
                    progress.set_trouble(None);
                }
                return Some(value);
            }
            Err(error) => {
                attempt += 1;
                if attempt == 1 {
                    tracing::error!(what, %error, "cannot write, will retry");
                }
                progress.set_trouble(Some(format!("{what}: {error}")));
            }
        }
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        thread::sleep(delay);
        delay = (delay * 2).min(RETRY_MAX);
    }
}

/// Why reading or decoding failed.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The read failed, and may succeed later.
    Io(io::Error),
    /// The data makes no image, for this reason.
    Data(String),
}

impl From<DecodeError> for ReadError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Io(error) => Self::Io(io::Error::new(error.kind(), error.to_string())),
            error => Self::Data(error.to_string()),
        }
    }
}

/// Repeats a read that fails, a few times: a mount that stalls for a moment must not cost the image.
///
/// # Errors
/// The last error. An unexpected end of the file is not retried.
pub(super) fn read_with_retries<T>(
    mut read: impl FnMut() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let mut attempt = 0;
    loop {
        match read() {
            Err(ReadError::Io(error))
                if error.kind() != io::ErrorKind::UnexpectedEof && attempt < READ_RETRIES_MAX =>
            {
                attempt += 1;
                thread::sleep(RETRY_FIRST * attempt);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_repeated_until_it_succeeds() {
        let progress = Progress::default();
        let mut errors = vec!["the disk is full"];
        let got = write_until_stopped("file", &progress, &AtomicBool::new(false), || {
            errors.pop().map_or(Ok(7), Err)
        });
        assert_eq!((got, progress.trouble()), (Some(7), None));
    }

    #[test]
    fn a_write_is_given_up_once_the_program_stops() {
        let progress = Progress::default();
        let got = write_until_stopped("file", &progress, &AtomicBool::new(true), || {
            Err::<(), _>("the disk is full")
        });
        assert_eq!((got, progress.trouble().as_deref()), (None, Some("file: the disk is full")));
    }

    #[test]
    fn only_reads_that_may_succeed_later_are_repeated() {
        let check = |kind: Option<io::ErrorKind>, n_want: u32| {
            let mut n_reads = 0;
            let result: Result<(), _> = read_with_retries(|| {
                n_reads += 1;
                Err(kind
                    .map_or(ReadError::Data("bad".to_owned()), |kind| ReadError::Io(kind.into())))
            });
            assert!(result.is_err() && n_reads == n_want, "{kind:?}: {n_reads}");
        };
        check(None, 1);
        check(Some(io::ErrorKind::UnexpectedEof), 1);
        check(Some(io::ErrorKind::TimedOut), 1 + READ_RETRIES_MAX);
    }
}
