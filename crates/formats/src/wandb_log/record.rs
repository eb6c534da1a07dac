//! The messages and fields of the W&B client's schema that Safelight writes or reads.
//!
//! The names are ours, the field numbers those of `wandb/proto/wandb_internal.proto`. A record that is decoded
//! and encoded again loses the fields that are missing here. [`super::merge`] therefore copies records as bytes.

use prost::{Message, Oneof};

/// A record of the log: `Record`.
#[derive(Clone, PartialEq, Message)]
pub struct LogRecord {
    /// The number of the record: 1, 2, 3, …
    #[prost(int64, tag = "1")]
    pub seq: i64,
    /// The content. `None` for a kind that is missing here.
    #[prost(oneof = "Kind", tags = "2, 3, 5, 6, 17, 18, 20, 21")]
    pub kind: Option<Kind>,
    /// How the client handles the record.
    #[prost(message, optional, tag = "16")]
    pub control: Option<Control>,
}

/// The kinds of records that Safelight writes. A log of the client has others.
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    /// The values of one step.
    #[prost(message, tag = "2")]
    History(HistoryRow),
    /// Changes of the summary.
    #[prost(message, tag = "3")]
    Summary(KeyedChanges),
    /// Changes of the config.
    #[prost(message, tag = "5")]
    Config(KeyedChanges),
    /// Files to upload.
    #[prost(message, tag = "6")]
    Files(FileList),
    /// The start of the run.
    #[prost(message, tag = "17")]
    Run(Box<RunStart>),
    /// The end of the run.
    #[prost(message, tag = "18")]
    Exit(RunEnd),
    /// The last record of a log.
    #[prost(message, tag = "20")]
    Final(Nothing),
    /// The first record of a log.
    #[prost(message, tag = "21")]
    Header(LogInfo),
}

/// How the client handles a record.
#[derive(Clone, PartialEq, Message)]
pub struct Control {
    /// Where the client answers.
    #[prost(string, tag = "4")]
    pub mailbox_slot: String,
}

/// A message without fields.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Nothing {}

/// The content of a log's first record.
#[derive(Clone, PartialEq, Message)]
pub struct LogInfo {
    /// The program that wrote the log.
    #[prost(message, optional, tag = "1")]
    pub version_info: Option<Producer>,
}

/// The program that wrote the log, and the oldest client that can read it.
#[derive(Clone, PartialEq, Message)]
pub struct Producer {
    /// The version of the program.
    #[prost(string, tag = "1")]
    pub producer: String,
    /// The oldest version of the client that can read the log.
    #[prost(string, tag = "2")]
    pub min_consumer: String,
}

/// A value and its place: the name `key`, or the path `nested_key`.
#[derive(Clone, PartialEq, Message)]
pub struct KeyedValue {
    /// The name. Empty if `nested_key` is given.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The path of names. Empty if `key` is given.
    #[prost(string, repeated, tag = "2")]
    pub nested_key: Vec<String>,
    /// The value as JSON.
    #[prost(string, tag = "16")]
    pub value_json: String,
}

/// The values that were logged at one step.
#[derive(Clone, PartialEq, Message)]
pub struct HistoryRow {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub item: Vec<KeyedValue>,
    /// The step.
    #[prost(message, optional, tag = "2")]
    pub step: Option<RowStep>,
}

/// A step of the history.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct RowStep {
    /// W&B's `_step`.
    #[prost(int64, tag = "1")]
    pub num: i64,
}

/// Changes of the config, or of the summary.
#[derive(Clone, PartialEq, Message)]
pub struct KeyedChanges {
    /// Values that are set.
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<KeyedValue>,
    /// Values that are removed.
    #[prost(message, repeated, tag = "2")]
    pub remove: Vec<KeyedValue>,
}

/// Files to upload. The client uploads only files that such a record names.
#[derive(Clone, PartialEq, Message)]
pub struct FileList {
    /// The files.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<FileEntry>,
}

/// A file to upload.
#[derive(Clone, PartialEq, Message)]
pub struct FileEntry {
    /// Relative to `files/`, as in the values.
    #[prost(string, tag = "1")]
    pub path: String,
    /// When to upload it: 0 is now.
    #[prost(int32, tag = "2")]
    pub policy: i32,
    /// The kind of file: 2 is media.
    #[prost(int32, tag = "3")]
    pub kind: i32,
}

/// How the run ended.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct RunEnd {
    /// The exit code of the training: 0 for success.
    #[prost(int32, tag = "1")]
    pub exit_code: i32,
    /// How long the run took, in whole seconds.
    #[prost(int32, tag = "2")]
    pub runtime: i32,
    /// Whether more of the run follows. The client then does not report the run as finished.
    #[prost(bool, tag = "3")]
    pub not_complete: bool,
}

/// A time: `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct UnixTime {
    /// Whole seconds since the Unix epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// The identity of a run. Empty text counts as absent.
#[derive(Clone, PartialEq, Message)]
pub struct RunStart {
    /// The id of the run.
    #[prost(string, tag = "1")]
    pub run_id: String,
    /// The user or team that owns the run.
    #[prost(string, tag = "2")]
    pub entity: String,
    /// The project.
    #[prost(string, tag = "3")]
    pub project: String,
    /// The config at the start.
    #[prost(message, optional, tag = "4")]
    pub config: Option<KeyedChanges>,
    /// The group that the run belongs to.
    #[prost(string, tag = "6")]
    pub run_group: String,
    /// The job type of the run.
    #[prost(string, tag = "7")]
    pub job_type: String,
    /// The name that the pages of W&B show.
    #[prost(string, tag = "8")]
    pub display_name: String,
    /// The tags of the run.
    #[prost(string, repeated, tag = "10")]
    pub tags: Vec<String>,
    /// When the run began.
    #[prost(message, optional, tag = "17")]
    pub start_time: Option<UnixTime>,
}

macro_rules! into_kind {
    ($($kind:ident $of:ty),*) => {$(
        impl From<$of> for Kind {
            fn from(of: $of) -> Self {
                Self::$kind(of)
            }
        }
    )*};
}
into_kind!(History HistoryRow, Files FileList, Exit RunEnd, Final Nothing, Header LogInfo);

impl From<RunStart> for Kind {
    fn from(run: RunStart) -> Self {
        Self::Run(Box::new(run))
    }
}

impl LogRecord {
    /// Returns a record with this number.
    #[must_use]
    pub fn new(seq: i64, kind: Kind) -> Self {
        // Without a slot, 0.28.2 waits for ever for the run to begin. Any text works.
        let slot = || Control { mailbox_slot: "safelight".to_owned() };
        let control = matches!(kind, Kind::Run(_)).then(slot);
        Self { seq, kind: Some(kind), control }
    }
}

impl LogInfo {
    /// Returns the header that this program writes.
    #[must_use]
    pub fn ours() -> Self {
        let producer = concat!("safelight/", env!("CARGO_PKG_VERSION")).to_owned();
        // The library has written this version since its logs have this form.
        let min_consumer = "0.70.0".to_owned();
        Self { version_info: Some(Producer { producer, min_consumer }) }
    }
}

impl KeyedValue {
    /// Returns a value below a key.
    #[must_use]
    pub fn flat(key: &str, value: &serde_json::Value) -> Self {
        Self { key: key.to_owned(), nested_key: Vec::new(), value_json: value.to_string() }
    }

    /// Returns a value at the end of a path.
    #[must_use]
    pub fn nested(path: &[&str], value: &serde_json::Value) -> Self {
        let nested_key = path.iter().map(|&part| part.to_owned()).collect();
        Self { key: String::new(), nested_key, value_json: value.to_string() }
    }

    /// Returns the first part of the path, or the key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.nested_key.first().unwrap_or(&self.key)
    }
}

impl KeyedChanges {
    /// Returns changes that set values and remove none.
    #[must_use]
    pub fn updates(update: Vec<KeyedValue>) -> Self {
        Self { update, remove: Vec::new() }
    }
}

impl HistoryRow {
    /// Its step, as the item of that name says, or else the message.
    #[must_use]
    pub fn step(&self) -> Option<i64> {
        let item = self.item.iter().find(|item| item.name() == "_step");
        let said = item.and_then(|item| item.value_json.parse().ok());
        said.or_else(|| self.step.map(|step| step.num))
    }
}

impl UnixTime {
    /// Of finite seconds since the Unix epoch.
    #[expect(clippy::cast_possible_truncation, reason = "nanoseconds of a second")]
    #[must_use]
    pub fn of(seconds: f64) -> Self {
        let whole = seconds.floor();
        Self { seconds: whole as i64, nanos: ((seconds - whole) * 1e9) as i32 }
    }

    /// Seconds since the Unix epoch.
    #[expect(clippy::cast_precision_loss, reason = "a time of this age")]
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.seconds as f64 + f64::from(self.nanos) / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_encoded_as_the_library_does() {
        let producer = "img-sync/0.1".to_owned();
        let version_info = Some(Producer { producer, min_consumer: "0.70.0".to_owned() });
        let record = LogRecord::new(1, Kind::Header(LogInfo { version_info }));
        let want = b"\x08\x01\xaa\x01\x18\x0a\x16\x0a\x0cimg-sync/0.1\x12\x060.70.0";
        assert_eq!(record.encode_to_vec(), want);
        // Messages that are there are written even if they are empty.
        let record = LogRecord::new(1, Kind::Exit(RunEnd::default()));
        assert_eq!(record.encode_to_vec(), b"\x08\x01\x92\x01\x00");
    }

    #[test]
    fn only_the_run_has_a_slot() {
        assert!(LogRecord::new(1, RunStart::default().into()).control.is_some());
        assert!(LogRecord::new(1, Nothing {}.into()).control.is_none());
    }

    #[test]
    fn times_are_split_and_joined() {
        for seconds in [0.0, 1_700_000_000.25, 0.5] {
            assert_eq!(UnixTime::of(seconds).seconds(), seconds);
        }
    }
}
