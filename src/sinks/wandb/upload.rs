//! The command that uploads a closed segment, such as `wandb sync`.
//!
//! `wandb sync` may exit with status 0 and mark the segment as synced even if nothing was uploaded. Syncing a segment
//! twice duplicates its rows. The output of the command is therefore checked. The command is retried only if it
//! certainly uploaded nothing:
//!
//! | marker | `uploads/SEGMENT/` | output | action |
//! | --- | --- | --- | --- |
//! | no | missing | | run the command |
//! | no | present | the run was not started | run the command again |
//! | no | present | the run was started | report an error that a person must resolve |
//! | yes | present | an error | report an error that a person must resolve |
//! | yes | present | no error | done |
//! | yes | missing | | done: a person synced the segment or resolved the error |
//!
//! The folder of an upload holds the output and, in `wandb/logs`, the client's own log. Only the client's log reports
//! a rejected file. The command keeps its output locked. If the command outlives this process, the lock prevents a
//! second upload until the command ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::sleep;

use super::{FileError, in_dir};
use crate::config::sync::WandbConfig;
use crate::secrets::{Redactor, Secret, SecretError, SecretSource};
use crate::sinks::target_dir::TargetDir;

/// Time limit of an upload: this, plus one second for each [`BYTES_PER_S_MIN`] bytes.
const TIME_MAX: Duration = Duration::from_mins(15);
const BYTES_PER_S_MIN: u64 = 65_536;

/// Interval at which the command's status is polled.
const LOOK: Duration = Duration::from_millis(100);

/// Maximum number of bytes read from the end of an output.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// The reason why a segment is not uploaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("{0}")]
    File(#[from] FileError),
    #[error("{0}")]
    Secret(#[from] SecretError),
    #[error("{command}: {source}")]
    Start { command: String, source: io::Error },
    #[error("the upload of {0} is still under way")]
    UnderWay(String),
    #[error("{segment} was not uploaded: {said}")]
    Nothing { segment: String, said: String },
    /// A partial upload, which a person must resolve.
    #[error(
        "{segment} was uploaded in part, and would have its rows twice if that were done again: {said}; look at the \
         run, and see docs/wandb.md; what was said is in {folder}"
    )]
    InPart { segment: String, said: String, folder: PathBuf },
}

/// Result of an upload.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Done,
    /// The command did not start the run, so a retry is safe.
    Nothing(String),
    InPart(String),
}

/// Uploads a segment with the configured command. Does nothing if no command is configured or the upload is done.
///
/// # Errors
/// If the segment is not uploaded, or is uploaded only in part.
pub(super) async fn upload(
    config: &WandbConfig,
    dir: &TargetDir,
    name: &str,
) -> Result<(), UploadError> {
    let Some((program, arguments)) = config.command.split_first() else { return Ok(()) };
    let segment = &dir.path(&Path::new("wandb").join(name));
    let name = name.to_owned();
    let folder = Path::new("uploads").join(&name);
    let output = folder.join("output.txt");
    let was_tried = dir.file_type(&output).map_err(in_dir(dir, &output))?.is_some();
    // Reads the key first, so that a missing key leaves no trace of an upload.
    let key = config.api_key.as_ref().map(SecretSource::read).transpose()?;
    if !was_tried && is_marked(segment)? {
        return Ok(());
    }
    if was_tried {
        // The lock is free only if the earlier command has ended.
        drop(lock(dir, &output, &name)?);
        let end = ending(segment, dir, &folder, key.as_ref(), None)?;
        if !matches!(end, End::Nothing(_)) {
            return settle(end, name, dir, &folder);
        }
        dir.remove_dir_all(&folder).map_err(in_dir(dir, &folder))?;
    }
    let logs = folder.join("wandb");
    dir.create_dir_all(&logs).map_err(in_dir(dir, &logs))?;
    let file = lock(dir, &output, &name)?;
    let again = file.try_clone().map_err(in_dir(dir, &output))?;
    let absolute = dir.path(&folder);
    let mut command = Command::new(program);
    command.args(arguments).arg(segment).current_dir(&absolute).env("WANDB_DIR", &absolute);
    command.stdin(Stdio::null()).stdout(file).stderr(again).process_group(0);
    if let Some(key) = &key {
        command.env("WANDB_API_KEY", key.expose());
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(source) => {
            dir.remove_dir_all(&folder).map_err(in_dir(dir, &folder))?;
            return Err(UploadError::Start { command: program.clone(), source });
        }
    };
    // The child has inherited the output, and keeps it locked.
    drop(command);
    let n_bytes = n_bytes(&segment.join("files"));
    let time_max = TIME_MAX + Duration::from_secs(n_bytes / BYTES_PER_S_MIN);
    let start = Instant::now();
    let mut trouble = None;
    loop {
        if let Some(status) = child.try_wait().map_err(in_dir(dir, &output))? {
            trouble = trouble.or_else(|| (!status.success()).then(|| status.to_string()));
            break;
        }
        if trouble.is_none() && start.elapsed() > time_max {
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            // Ignores a failure, because the command may have just ended.
            group.map(|group| kill_process_group(group, Signal::KILL).ok());
            trouble = Some(format!("stopped after {} s", time_max.as_secs()));
        }
        sleep(LOOK).await;
    }
    settle(ending(segment, dir, &folder, key.as_ref(), trouble)?, name, dir, &folder)
}

fn settle(end: End, segment: String, dir: &TargetDir, folder: &Path) -> Result<(), UploadError> {
    match end {
        End::Done => {
            dir.remove_dir_all(folder).map_err(in_dir(dir, folder))?;
            Ok(())
        }
        End::Nothing(said) => Err(UploadError::Nothing { segment, said }),
        End::InPart(said) => Err(UploadError::InPart { segment, said, folder: dir.path(folder) }),
    }
}

/// Opens and locks an output.
///
/// # Errors
/// [`UploadError::UnderWay`] if a command still writes to the output.
fn lock(dir: &TargetDir, output: &Path, segment: &str) -> Result<File, UploadError> {
    let file = dir.open_to_append(output).map_err(in_dir(dir, output))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(UploadError::UnderWay(segment.to_owned())),
        Err(error) => Err(in_dir(dir, output)(error.into()).into()),
    }
}

/// Returns whether the client has marked a segment as synced.
fn is_marked(segment: &Path) -> Result<bool, FileError> {
    for entry in fs::read_dir(segment).map_err(FileError::at(segment))? {
        let name = entry.map_err(FileError::at(segment))?.file_name();
        if name.to_string_lossy().ends_with(".wandb.synced") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Determines the result of an upload from its files. `trouble` is an error that is already known. Redacts the key.
fn ending(
    segment: &Path,
    dir: &TargetDir,
    folder: &Path,
    key: Option<&Secret>,
    trouble: Option<String>,
) -> Result<End, FileError> {
    let redactor = Redactor::of(key.map(Secret::expose));
    let output = read_end(dir, &folder.join("output.txt"))?;
    let logs = folder.join("wandb/logs");
    let mut log = String::new();
    // The folder is empty if the command is not the W&B client.
    for (name, file_type) in dir.entries(&logs).map_err(in_dir(dir, &logs))? {
        if file_type == FileType::RegularFile {
            log.push_str(&read_end(dir, &logs.join(name))?);
        }
    }
    Ok(judge(&redactor, (&output, &log), is_marked(segment)?, trouble))
}

/// Determines the result of an upload from its output and log.
fn judge(
    redactor: &Redactor,
    (output, log): (&str, &str),
    is_marked: bool,
    trouble: Option<String>,
) -> End {
    // Checks only the start of a line, because a project's name may contain these words.
    let is_bad = |line: &String| line.starts_with("ERROR") || line.starts_with("Skipped");
    let mut said: Vec<String> = trouble.into_iter().collect();
    said.extend(output.lines().map(plain).filter(is_bad));
    said.extend(log.lines().filter_map(file_trouble));
    said.dedup();
    if said.is_empty() {
        if is_marked {
            return End::Done;
        }
        let last = output.lines().rev().map(plain).find(|line| !line.is_empty());
        let last = last.unwrap_or_else(|| "it said nothing".to_owned());
        said.push(format!("no mark was left; the last word was: {last}"));
    }
    let said = redactor.text(&said.join("; "));
    // The client prints this after the server has created the run and before it sends the first row.
    let is_begun = is_marked || output.contains("View run");
    if is_begun { End::InPart(said) } else { End::Nothing(said) }
}

/// Returns a line of an output without terminal escape sequences, control characters and the client's prefix.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // Skips to the letter that ends the escape sequence.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else if !c.is_control() {
            text.push(c);
        }
    }
    text.trim().trim_start_matches("wandb: ").to_owned()
}

/// Returns the message of a line of the client's log if it reports a file that was not uploaded.
fn file_trouble(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let message = line["msg"].as_str()?;
    let is_of_a_file = message.starts_with("file transfer:") || message.starts_with("uploader:");
    (line["level"] == "ERROR" && is_of_a_file).then(|| message.to_owned())
}

/// Reads the last [`OUTPUT_BYTES_MAX`] bytes of a text file.
fn read_end(dir: &TargetDir, path: &Path) -> Result<String, FileError> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || {
        let mut file = dir.open_to_read(path)?;
        let n_bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(n_bytes.saturating_sub(OUTPUT_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(in_dir(dir, path))
}

/// Returns the approximate total size of the files below a folder, in bytes.
fn n_bytes(folder: &Path) -> u64 {
    let (mut n_bytes, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) => n_bytes += meta.len(),
                Err(_) => {}
            }
        }
    }
    n_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_says_is_what_counts() {
        let judge = |output: &str, log: &str, is_marked, trouble| {
            judge(&Redactor::default(), (output, log), is_marked, trouble)
        };
        let begun = "wandb: Syncing 1 run(s):\nwandb: [p/r] View run r at http://x/p/runs/r\n";
        let fatal = format!(
            "{begun}wandb: \u{1b}[31mERROR\u{1b}[0m [p/r] Fatal error while uploading data.\n"
        );
        let refused = "wandb: Syncing 1 run(s):\nwandb: ERROR permission denied\n";
        let log = "{\"level\":\"ERROR\",\"msg\":\"featurechecker: nil\"}\nnot JSON\n";
        let file = "{\"level\":\"ERROR\",\"msg\":\"file transfer: upload: failed: status: 403\"}\n";
        assert_eq!(judge(begun, log, true, None), End::Done);
        let named = "wandb: [ERROR-analysis/Skipped] View run ERROR at http://x/p/runs/r\n";
        assert_eq!(judge(named, log, true, None), End::Done);
        let in_part = |said: &str| End::InPart(said.to_owned());
        let said = "ERROR [p/r] Fatal error while uploading data.";
        assert_eq!(judge(&fatal, log, true, None), in_part(said));
        let said = "file transfer: upload: failed: status: 403";
        assert_eq!(judge(begun, file, true, None), in_part(said));
        let stopped = Some("stopped after 9 s".to_owned());
        assert_eq!(judge(begun, log, false, stopped), in_part("stopped after 9 s"));
        let nothing = |said: &str| End::Nothing(said.to_owned());
        assert_eq!(judge(refused, log, false, None), nothing("ERROR permission denied"));
        let said = "no mark was left; the last word was: it said nothing";
        assert_eq!(judge("", "", false, None), nothing(said));
    }
}
