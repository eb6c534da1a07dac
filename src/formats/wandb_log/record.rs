//! What records hold: those messages and fields of the client's schema that are written or looked at here.
//! Pure.
//!
//! The names are ours, the numbers the library's (`wandb/proto/wandb_internal.proto`). Fields that are not here
//! are lost in a record that is decoded and encoded again; [`super::merge`] therefore doesn't.

use prost::{Message, Oneof};

/// A record of the log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogRecord {
    /// 1, 2, 3, …
    #[prost(int64, tag = "1")]
    pub(crate) seq: i64,
    #[prost(oneof = "Kind", tags = "2, 3, 5, 6, 17, 18, 20, 21")]
    pub(crate) kind: Option<Kind>,
    #[prost(message, optional, tag = "16")]
    pub(crate) control: Option<Control>,
}

/// The kinds of records that are written here. A reader meets others.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "2")]
    History(HistoryRow),
    #[prost(message, tag = "3")]
    Summary(KeyedChanges),
    #[prost(message, tag = "5")]
    Config(KeyedChanges),
    #[prost(message, tag = "6")]
    Files(FileList),
    #[prost(message, tag = "17")]
    Run(Box<RunStart>),
    #[prost(message, tag = "18")]
    Exit(RunEnd),
    #[prost(message, tag = "20")]
    Final(Nothing),
    #[prost(message, tag = "21")]
    Header(LogInfo),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Control {
    #[prost(string, tag = "4")]
    pub(crate) mailbox_slot: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Nothing {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogInfo {
    #[prost(message, optional, tag = "1")]
    pub(crate) version_info: Option<Producer>,
}

/// Who wrote the log, and the oldest client that can read it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Producer {
    #[prost(string, tag = "1")]
    pub(crate) producer: String,
    #[prost(string, tag = "2")]
    pub(crate) min_consumer: String,
}

/// A value, and where it belongs: below `key`, or at the end of the path `nested_key`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyedValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) nested_key: Vec<String>,
    #[prost(string, tag = "16")]
    pub(crate) value_json: String,
}

/// What was logged at a step.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HistoryRow {
    #[prost(message, repeated, tag = "1")]
    pub(crate) item: Vec<KeyedValue>,
    #[prost(message, optional, tag = "2")]
    pub(crate) step: Option<RowStep>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct RowStep {
    #[prost(int64, tag = "1")]
    pub(crate) num: i64,
}

/// Changes of the config, or of the summary.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyedChanges {
    #[prost(message, repeated, tag = "1")]
    pub(crate) update: Vec<KeyedValue>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) remove: Vec<KeyedValue>,
}

/// Files that are to be uploaded. One that no such record names isn't.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileList {
    #[prost(message, repeated, tag = "1")]
    pub(crate) files: Vec<FileEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileEntry {
    /// Relative to `files/`, as in the values.
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// When: 0 is now.
    #[prost(int32, tag = "2")]
    pub(crate) policy: i32,
    /// What: 2 is media.
    #[prost(int32, tag = "3")]
    pub(crate) kind: i32,
}

/// How the run ended.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct RunEnd {
    #[prost(int32, tag = "1")]
    pub(crate) exit_code: i32,
    /// Whole seconds.
    #[prost(int32, tag = "2")]
    pub(crate) runtime: i32,
    /// Whether more of the run will follow: then the server isn't told that it is over.
    #[prost(bool, tag = "3")]
    pub(crate) not_complete: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct UnixTime {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// Whose the run is, and what is known of it from the beginning. Empty text is as good as none.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RunStart {
    #[prost(string, tag = "1")]
    pub(crate) run_id: String,
    #[prost(string, tag = "2")]
    pub(crate) entity: String,
    #[prost(string, tag = "3")]
    pub(crate) project: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) config: Option<KeyedChanges>,
    #[prost(string, tag = "6")]
    pub(crate) run_group: String,
    #[prost(string, tag = "7")]
    pub(crate) job_type: String,
    #[prost(string, tag = "8")]
    pub(crate) display_name: String,
    #[prost(string, repeated, tag = "10")]
    pub(crate) tags: Vec<String>,
    #[prost(message, optional, tag = "17")]
    pub(crate) start_time: Option<UnixTime>,
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
    /// A record with this number.
    pub(crate) fn new(seq: i64, kind: Kind) -> Self {
        // Without a slot 0.28.2 waits for ever for the run to begin. Any text will do.
        let slot = || Control { mailbox_slot: "safelight".to_owned() };
        let control = matches!(kind, Kind::Run(_)).then(slot);
        Self { seq, kind: Some(kind), control }
    }
}

impl LogInfo {
    /// As this program writes it.
    pub(crate) fn ours() -> Self {
        let producer = concat!("safelight/", env!("CARGO_PKG_VERSION")).to_owned();
        // What the library has named since its logs were of this form.
        let min_consumer = "0.70.0".to_owned();
        Self { version_info: Some(Producer { producer, min_consumer }) }
    }
}

impl KeyedValue {
    /// A value below a key.
    pub(crate) fn flat(key: &str, value: &serde_json::Value) -> Self {
        Self { key: key.to_owned(), nested_key: Vec::new(), value_json: value.to_string() }
    }

    /// A value at the end of a path.
    pub(crate) fn nested(path: &[&str], value: &serde_json::Value) -> Self {
        let nested_key = path.iter().map(|&part| part.to_owned()).collect();
        Self { key: String::new(), nested_key, value_json: value.to_string() }
    }

    /// The first part of its path, or its key.
    pub(crate) fn name(&self) -> &str {
        self.nested_key.first().unwrap_or(&self.key)
    }
}

impl KeyedChanges {
    pub(crate) fn updates(update: Vec<KeyedValue>) -> Self {
        Self { update, remove: Vec::new() }
    }
}

impl HistoryRow {
    /// Its step, as the item of that name says, or else the message.
    pub(crate) fn step(&self) -> Option<i64> {
        let item = self.item.iter().find(|item| item.name() == "_step");
        let said = item.and_then(|item| item.value_json.parse().ok());
        said.or_else(|| self.step.map(|step| step.num))
    }
}

impl UnixTime {
    /// Of finite seconds since the Unix epoch.
    #[expect(clippy::cast_possible_truncation, reason = "nanoseconds of a second")]
    pub(crate) fn of(seconds: f64) -> Self {
        let whole = seconds.floor();
        Self { seconds: whole as i64, nanos: ((seconds - whole) * 1e9) as i32 }
    }

    /// Seconds since the Unix epoch.
    #[expect(clippy::cast_precision_loss, reason = "a time of this age")]
    pub(crate) fn seconds(self) -> f64 {
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
