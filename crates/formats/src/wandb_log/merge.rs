//! Adds images to the log of a finished offline training.
//!
//! The training's records are copied byte for byte, except for their numbers. Records of rows get the items of their
//! step's images. Records of unknown kinds are copied too.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use super::LogEnd;
use super::framing::{LogError, Records};
use super::record::{HistoryRow, KeyedChanges, KeyedValue, Kind, LogRecord, RunStart, UnixTime};
use super::row::{LabelPlace, ROW_BYTES_MAX, Row, label_item};
use safelight_image::media::MediaKey;

/// The log of a training.
#[derive(Debug)]
pub struct Training {
    records: Vec<(Vec<u8>, LogRecord)>,
    run: RunStart,
}

/// Why images can't be added to a log.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The log is damaged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record is not one that the client writes.
    #[error("record {n} of the log is not what the client writes")]
    Record {
        /// The record's place, from 1.
        n: usize,
    },
    /// The log has no record of a run.
    #[error("the log has no run")]
    NoRun,
    /// The training still runs, or was killed.
    #[error(
        "the run has not ended: its log has no exit record; a run can be merged once it is finished"
    )]
    NotFinished,
    /// The training logged a value of the same name at the same step.
    #[error("the run has a value {:?} of its own at step {step}", .key.as_str())]
    HasKey {
        /// The name.
        key: MediaKey,
        /// The step.
        step: u64,
    },
    /// The row is too long: the client would skip it.
    #[error(
        "step {step} would have {n_bytes} bytes, more than the {ROW_BYTES_MAX} that the client uploads"
    )]
    RowTooLong {
        /// The step.
        step: u64,
        /// The length of the row's JSON in bytes.
        n_bytes: usize,
    },
}

impl Training {
    /// Reads the log of a finished training.
    ///
    /// # Errors
    /// If the log is damaged, has no run, or has no end.
    pub fn read(log: &[u8]) -> Result<Self, MergeError> {
        let mut records = Vec::new();
        let mut run = None;
        let mut has_ended = false;
        for bytes in Records::new(log)? {
            let bytes = bytes?;
            let bad = || MergeError::Record { n: records.len() + 1 };
            let record = LogRecord::decode(bytes.as_slice()).map_err(|_| bad())?;
            fields(&bytes).ok_or_else(bad)?;
            match &record.kind {
                Some(Kind::Run(start)) if run.is_none() => run = Some(*start.clone()),
                Some(Kind::Exit(_)) => has_ended = true,
                _ => {}
            }
            records.push((bytes, record));
        }
        let run = run.ok_or(MergeError::NoRun)?;
        if !has_ended {
            return Err(MergeError::NotFinished);
        }
        Ok(Self { records, run })
    }

    /// Returns the run's id.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run.run_id
    }

    /// Returns the log with the images of these rows. The steps of `rows` must increase.
    ///
    /// # Errors
    /// If the training has a value of the same name at the same step, or a row becomes too long.
    pub fn with(&self, rows: &[Row]) -> Result<Vec<u8>, MergeError> {
        let mut log = LogEnd::of(0, 0);
        let start = self.run.start_time.unwrap_or_default();
        let mut rows = rows.iter().peekable();
        let labels: BTreeMap<&LabelPlace, _> = rows.clone().flat_map(|row| &row.labels).collect();
        let mut has_labels = labels.is_empty();
        let mut is_over = false;
        for (bytes, record) in &self.records {
            let mut items = Vec::new();
            match &record.kind {
                Some(Kind::History(theirs)) => {
                    let step = theirs.step().and_then(|step| u64::try_from(step).ok());
                    while let Some(row) = rows.next_if(|row| step.is_some_and(|s| row.step.0 < s)) {
                        push_row(&mut log, row, start)?;
                    }
                    if let Some(row) = rows.next_if(|row| Some(row.step.0) == step) {
                        check_row(theirs, row)?;
                        push_before_row(&mut log, row);
                        items = row.items();
                    }
                }
                Some(Kind::Exit(_)) if !is_over => {
                    rows.by_ref().try_for_each(|row| push_row(&mut log, row, start))?;
                    is_over = true;
                }
                _ => {}
            }
            let seq = log.seq() + 1;
            // `read` has checked that it is a message.
            log.push_encoded(&renumbered(bytes, seq, items).unwrap_or_default());
            if matches!(record.kind, Some(Kind::Run(_))) && !has_labels {
                has_labels = true;
                let items = labels.iter().map(|(place, labels)| label_item(place, labels));
                log.push(Kind::Config(KeyedChanges::updates(items.collect())));
            }
        }
        Ok(log.bytes().to_vec())
    }
}

/// Adds the records that come before a row: its files, and its changes of the summary.
pub fn push_before_row(log: &mut LogEnd, row: &Row) {
    log.push(row.file_list());
    log.push(Kind::Summary(KeyedChanges::updates(row.summary())));
}

fn push_row(log: &mut LogEnd, row: &Row, start: UnixTime) -> Result<(), MergeError> {
    check_row(&HistoryRow::default(), row)?;
    push_before_row(log, row);
    log.push(row.history(start.seconds()));
    Ok(())
}

fn check_row(theirs: &HistoryRow, row: &Row) -> Result<(), MergeError> {
    let step = row.step.0;
    let names: BTreeSet<&str> = theirs.item.iter().map(KeyedValue::name).collect();
    if let Some(key) = row.values.keys().find(|key| names.contains(key.as_str())) {
        return Err(MergeError::HasKey { key: key.clone(), step });
    }
    let of_item = |item: &KeyedValue| {
        let path: usize = item.nested_key.iter().map(String::len).sum();
        item.key.len() + path + item.value_json.len() + 8
    };
    let n_bytes = theirs.item.iter().chain(&row.items()).map(of_item).sum();
    if n_bytes > ROW_BYTES_MAX {
        return Err(MergeError::RowTooLong { step, n_bytes });
    }
    Ok(())
}

/// A field of an encoded message.
struct Field<'a> {
    number: u64,
    /// The whole field.
    bytes: &'a [u8],
    /// The content of a message, text or bytes.
    content: Option<&'a [u8]>,
}

/// Returns the fields of an encoded message. `None` if it is no message.
fn fields(mut message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let whole = message;
        let tag = decode_varint(&mut message).ok()?;
        let mut content = None;
        match tag & 7 {
            0 => drop(decode_varint(&mut message).ok()?),
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                let (held, rest) = message.split_at_checked(length)?;
                (content, message) = (Some(held), rest);
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
        let bytes = &whole[..whole.len() - message.len()];
        fields.push(Field { number: tag >> 3, bytes, content });
    }
    Some(fields)
}

/// Returns a record with another number and, if it is a row, with further items.
fn renumbered(record: &[u8], seq: i64, items: Vec<KeyedValue>) -> Option<Vec<u8>> {
    const SEQ: u64 = 1;
    const HISTORY: u64 = 2;
    let mut items = HistoryRow { item: items, step: None }.encode_to_vec();
    let mut out = LogRecord { seq, kind: None, control: None }.encode_to_vec();
    for field in fields(record)? {
        match field {
            Field { number: SEQ, .. } => {}
            Field { number: HISTORY, content: Some(content), .. } if !items.is_empty() => {
                encode_varint(HISTORY << 3 | 2, &mut out);
                encode_varint((content.len() + items.len()) as u64, &mut out);
                out.extend(content);
                out.append(&mut items);
            }
            Field { bytes, .. } => out.extend(bytes),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::record::{FileList, KeyedValue, LogInfo, Nothing, RowStep, RunEnd};
    use super::super::row::tests::{image, row};
    use super::*;

    fn theirs(step: i64) -> HistoryRow {
        let item = vec![
            KeyedValue::nested(&["_step"], &json!(step)),
            KeyedValue::nested(&["loss"], &json!(0.5)),
        ];
        HistoryRow { item, step: Some(RowStep { num: step }) }
    }

    /// Returns a training's log with rows at these steps.
    fn training(steps: &[i64], has_ended: bool) -> Vec<u8> {
        let mut log = LogEnd::of(0, 0);
        log.push(LogInfo::ours());
        log.push(RunStart { run_id: "tr".to_owned(), ..RunStart::default() });
        // An unknown kind, with a field of each wire type.
        log.push_encoded(
            b"\x08\x03\x3a\x03abc\xc2\x0c\x02xy\x6d1234\x71\x01\x02\x03\x04\x05\x06\x07\x08",
        );
        log.push(FileList::default());
        steps.iter().for_each(|step| log.push(theirs(*step)));
        if has_ended {
            log.push(RunEnd::default());
            log.push(Nothing {});
        }
        log.bytes().to_vec()
    }

    fn records(log: &[u8]) -> Vec<LogRecord> {
        let records = Records::new(log).expect("a log");
        records.map(|r| LogRecord::decode(&*r.expect("a record")).expect("ours")).collect()
    }

    fn rows(log: &[u8]) -> Vec<(i64, usize)> {
        let row = |record: LogRecord| match record.kind {
            Some(Kind::History(row)) => Some((row.step().unwrap_or(-1), row.item.len())),
            _ => None,
        };
        records(log).into_iter().filter_map(row).collect()
    }

    #[test]
    fn images_go_into_the_rows_of_their_steps_or_between_them() {
        let log = training(&[0, 10, 20], true);
        let training = Training::read(&log).expect("a training");
        assert_eq!(training.run_id(), "tr");
        let images: Vec<Row> =
            [3, 10, 30].map(|step| row(step, &[image("k", step, 0, "c")])).into();
        let n_items = images[0].items().len();
        let merged = training.with(&images).expect("a log");
        let want = [(0, 2), (3, 3 + n_items), (10, 2 + n_items), (20, 2), (30, 3 + n_items)];
        assert_eq!(rows(&merged), want);
        let all = records(&merged);
        assert!(all.iter().zip(1..).all(|(record, n)| record.seq == n));
        assert!(matches!(all.last().and_then(|r| r.kind.clone()), Some(Kind::Final(_))));
        let n_configs = all.iter().filter(|r| matches!(r.kind, Some(Kind::Config(_)))).count();
        assert_eq!(n_configs, 1);
        // The files come before their row.
        for (i, record) in all.iter().enumerate().skip(1) {
            let is_ours = |row: &HistoryRow| row.item.iter().any(|item| item.name() == "k");
            if matches!(&record.kind, Some(Kind::History(row)) if is_ours(row)) {
                assert!(matches!(all[i - 2].kind, Some(Kind::Files(_))));
            }
        }
    }

    #[test]
    fn without_images_only_nothing_changes() {
        let log = training(&[0, 1], true);
        let merged = Training::read(&log).and_then(|training| training.with(&[]));
        assert_eq!(merged.expect("a log"), log);
    }

    #[test]
    fn logs_that_can_not_be_merged_are_refused_for_a_reason() {
        let read =
            |log: &[u8]| Training::read(log).map(|_| ()).expect_err("no training").to_string();
        assert!(read(&training(&[1], false)).contains("no exit record"));
        let log = training(&[1], true);
        assert!(read(&log[..log.len() - 3]).contains("ends inside a record"));
        let mut damaged = log.clone();
        damaged[60] ^= 1;
        assert!(read(&damaged).contains("damaged at byte"), "{}", read(&damaged));
        assert!(read(b"hello").contains("not a W&B log"));
        let images = [row(1, &[image("loss", 1, 0, "")])];
        let error = Training::read(&log).expect("a training").with(&images).expect_err("a key");
        assert_eq!(error.to_string(), "the run has a value \"loss\" of its own at step 1");
    }

    proptest! {
        #[test]
        fn no_message_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(fields) = fields(&bytes) {
                let whole: Vec<u8> = fields.iter().flat_map(|field| field.bytes).copied().collect();
                prop_assert_eq!(whole, bytes);
            }
        }
    }
}
