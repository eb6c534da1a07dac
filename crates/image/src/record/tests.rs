use proptest::prelude::*;
use serde_json::{Value, json};

use super::non_finite::quote_non_finite;
use super::*;
use crate::media::{ColorMode, Compression, DataFormat, FileType, Profile};
use crate::tensor::DType;

fn media(line: &str) -> Result<MediaRecord, String> {
    match parse_line(line.as_bytes()) {
        Ok(Line::Media(record)) => Ok(*record),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

fn check_refused(line: &str, want: &str) {
    let got = media(line).map_or_else(|error| error, |record| format!("{record:?}"));
    assert_eq!(got, want);
}

#[test]
fn a_full_line_is_read_and_unknown_fields_kept() {
    let record = media(
        r#"{"key":"val/pred","step":120,"data":"tensors/p.npy","caption":"epoch 3","format":"HWC",
            "mode":"RGB","grouping":2,"range":[-1,1.5],"file_type":"png","time":1763900000.5,"index":4,
            "profile":"wandb-0.20","compression":"small","palette":true,"boxes":{"pred":{"box_data":[]}},"loss":NaN}"#,
    );
    let record = record.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((record.key.as_str(), record.step, record.index), ("val/pred", Step(120), Some(4)));
    assert_eq!(record.data.path, "tensors/p.npy");
    let want = ImageOptions {
        profile: Some(Profile::Wandb020),
        range: Some((-1.0, 1.5)),
        format: Some(DataFormat::Hwc),
        mode: Some(ColorMode::Rgb),
        file_type: Some(FileType::Png),
        compression: Some(Compression::Small),
        palette: Some(true),
        ..ImageOptions::default()
    };
    assert_eq!(record.options, want);
    assert_eq!(record.description.caption, Some(json!("epoch 3").into()));
    assert_eq!(record.description.grouping, Some(json!(2).into()));
    assert_eq!(record.description.time, Some(1_763_900_000.5));
    assert_eq!(record.description.extra, Some(json!({"loss": "NaN"}).into()));
    let annotations = json!({"boxes": {"pred": {"box_data": []}}});
    assert_eq!(record.description.annotations, annotations);
}

#[test]
fn other_lines_are_read() {
    assert_eq!(parse_line(br#"{"commit":7}"#), Ok(Line::Commit(Step(7))));
    assert_eq!(parse_line(br#"{"finish":true}"#), Ok(Line::Finish));
    let session = |id: &str, rank| Ok(Line::Session(Session { id: id.to_owned(), rank }));
    assert_eq!(parse_line(br#"{"session":"s1","rank":3,"host":"a"}"#), session("s1", 3));
    assert_eq!(parse_line(br#"{"rank":2.0,"session":7}"#), session("7", 2));
    assert_eq!(
        parse_line(br#"{"session":-7.0,"rank":null}"#).map_err(|e| e.message),
        Err("session: got -7.0, want text of 1 to 256 bytes, or a whole number".to_owned())
    );
    let error = |line: &str| parse_line(line.as_bytes()).expect_err("an error").message;
    for id in ["{}", "null", "\"\"", "1.5", "true", &format!("{:?}", "x".repeat(257))] {
        let message = error(&format!("{{\"session\":{id}}}"));
        assert!(message.starts_with("session: got ") && message.len() < 150, "{message}");
    }
    assert_eq!(
        error(r#"{"session":"a","rank":-1}"#),
        "rank: got -1, want a whole number from 0 to 4294967295"
    );
    // Beside a picture, the fields are the job's own.
    let line = br#"{"key":"k","step":1,"data":"x.npy","session":"s","rank":"first"}"#;
    let extra = json!({"session": "s", "rank": "first"});
    assert!(
        matches!(parse_line(line), Ok(Line::Media(record)) if record.description.extra == Some(extra.into()))
    );
    let record =
        media(r#"{"key":"a","step":0,"data":{"path":"x.npy","dtype":"bfloat16"},"mode":""}"#);
    assert_eq!(record.map(|r| (r.data.dtype, r.options.mode)), Ok((Some(DType::BF16), None)));
}

#[test]
fn errors_name_field_and_column() {
    check_refused(
        r#"{"key":"a","step":-1,"data":"x"}"#,
        "column 20: step: invalid value: integer `-1`, expected a whole number from 0 to 18446744073709551615",
    );
    check_refused(
        r#"{"key":"a","step":"b","data":"x"}"#,
        "column 21: step: invalid type: string \"b\", expected a whole number from 0 to 18446744073709551615",
    );
    check_refused(
        r#"{"key":"","step":1,"data":"x"}"#,
        "column 9: key: key \"\": want at least one character",
    );
    check_refused(
        r#"{"key":"a","data":"x"}"#,
        "column 22: step is missing: want the training step, a whole number",
    );
    check_refused(r#"{"key":"a","step":1,"step":2}"#, "column 26: step occurs twice");
    check_refused(
        r#"{"key":"a","step":1,"mode":"P"}"#,
        "column 31: mode: mode \"P\" needs a palette, which is not made here; want 1, L, LA, RGB, RGBA or I;16",
    );
    check_refused(
        r#"{"range":[1,0]}"#,
        "column 15: range: got [1, 0], want [low, high], finite, low < high",
    );
    check_refused(
        r#"{"x":NaN,"range":[NaN,0]}"#,
        "column 25: range: got [NaN, 0], want [low, high], finite, low < high",
    );
    check_refused(r#"{"key":"a""#, "column 10: EOF while parsing an object");
    check_refused(
        "[1]",
        "column 1: invalid type: sequence, expected an object that describes an image",
    );
    check_refused("", "column 1: EOF while parsing a value");
    check_refused(
        "-Infinity",
        "column 9: invalid type: string \"-Infinity\", expected an object that describes an image",
    );
    check_refused(
        "{\"caption\": NaN,\n \"step\": NaN}",
        "line 2, column 13: step: invalid type: string \"NaN\", expected a whole number from 0 to 18446744073709551615",
    );
    assert_eq!(parse_line(b"{\"key\":\"\xff\"}").map_err(|e| e.column), Err(9));
}

#[test]
fn a_float_step_is_a_step() {
    let line = r#"{"key":"f","step":4096.0,"index":2.0,"data":{"path":"x.bin","dtype":"uint8","shape":[2.0,3]},
        "quality":90.0,"downscale":64.0,"grid":{"nrow":4.0}}"#;
    let record = media(line).expect("a record");
    assert_eq!((record.step, record.index), (Step(4096), Some(2)));
    assert_eq!((record.options.quality, record.options.downscale), (Some(90), Some(64)));
    assert_eq!(record.options.grid, Some(GridOption::Yes(Grid { nrow: 4, ..Grid::default() })));
    assert_eq!(record.data.raw.map(|raw| raw.shape.to_string()), Some("(2, 3)".to_owned()));
    assert!(media(r#"{"key":"f","step":4096.5,"data":"x"}"#).is_err());
    assert_eq!(parse_line(br#"{"commit":7.0}"#), Ok(Line::Commit(Step(7))));
}

#[test]
fn a_surrogate_in_a_caption_costs_no_image() {
    let record =
        media(r#"{"key":"s","step":1,"data":"a.npy","caption":"caf\udce9.png","loss":NaN}"#);
    let record = record.expect("a record");
    assert_eq!(record.description.caption, Some(json!("caf\u{fffd}.png").into()));
    assert_eq!(record.warnings, [lenient::SURROGATES]);
    // The column of an error is that in the line.
    check_refused(
        r#"{"caption":"\udce9","x":NaN,"step":"b"}"#,
        "column 39: step: invalid type: string \"b\", expected a whole number from 0 to 18446744073709551615",
    );
}

#[test]
fn an_implausible_time_is_dropped_with_a_warning() {
    for time in ["NaN", "1763900000500", "3.5", "-1", "\"2026-11-28\"", "[1]", "1e400"] {
        let line = format!(r#"{{"key":"t","step":1,"data":"a.npy","time":{time}}}"#);
        let Ok(record) = media(&line) else { continue };
        assert_eq!((record.description.time, record.warnings.len()), (None, 1), "{time}");
        assert!(record.warnings[0].starts_with("time dropped: got "), "{:?}", record.warnings);
    }
    let record = media(r#"{"key":"t","step":1,"data":"a.npy","time":null}"#).expect("a record");
    assert_eq!((record.description.time, record.warnings), (None, vec![]));
}

#[test]
fn odd_metadata_costs_no_image() {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let huge = "9".repeat(400);
    for (field, want, warning) in [
        (format!(r#""n":{huge}"#), json!({"n": huge}), ""),
        (format!(r#""n":-{huge}.5"#), json!({"n": format!("-{huge}.5")}), ""),
        (r#""n":[1e400,-2.5e-7]"#.to_owned(), json!({"n": ["1e400", -2.5e-7]}), ""),
        (r#""n":1,"n":2"#.to_owned(), json!({"n": 2}), "n occur twice, the last value counts"),
        (
            format!(r#""n":{}"#, deep(64)),
            serde_json::from_str(&format!(r#"{{"n":{}}}"#, deep(64))).expect("JSON"),
            "",
        ),
        (format!(r#""n":{}"#, deep(65)), json!({}), "n dropped: nested deeper than 64 levels"),
        (
            format!(r#""n":{},"m":1"#, deep(50_000)),
            json!({"m": 1}),
            "n dropped: nested deeper than 64 levels",
        ),
    ] {
        let line = format!(r#"{{"key":"a","step":1,{field},"data":"x.npy"}}"#);
        let record = media(&line).unwrap_or_else(|error| panic!("{error}"));
        let extra = record.description.extra.map_or_else(|| json!({}), |extra| extra.to_value());
        assert_eq!(extra, want);
        assert_eq!(record.warnings.join("; "), warning);
    }
    let record = media(&format!(
        r#"{{"key":"a","step":1,"data":"x","caption":1,"caption":{0},"boxes":{0},"boxes":null,"grouping":{0}}}"#,
        deep(99)
    ));
    let record = record.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(record.description, Description::default());
    let want = [
        "caption, boxes occur twice, the last value counts",
        "caption, grouping dropped: nested deeper than 64 levels",
    ];
    assert_eq!(record.warnings, want);
    // The column of an error stays that in the line.
    check_refused(
        &format!(r#"{{"a":{huge},"b":{},"step":"c"}}"#, deep(300)),
        "column 1022: step: invalid type: string \"c\", expected a whole number from 0 to 18446744073709551615",
    );
}

#[test]
fn a_bad_line_gives_the_key_and_step_before_its_error() {
    let place = |line: &[u8]| place_of(line).map(|(key, step)| (key.as_str().to_owned(), step.0));
    let want = Some(("a".to_owned(), 3));
    for line in [
        &br#"{"key":"a","step":3.0,"data":7}"#[..],
        br#"{"key":"a","step":3,"data":"x","boxes":[{"po"#,
        br#"{"step":3,"loss":NaN,"key":"a","caption":"\udce9","data":tensor([1.])}"#,
        b"\xef\xbb\xbf{\"key\":\"a\",\"step\":3,\"caption\":\"\xe9\"}",
    ] {
        assert_eq!(place(line), want, "{}", line.escape_ascii());
    }
    for line in [
        &b"{\"key\":\"a\",\"step\":-1}"[..],
        b"key a step 3",
        b"",
        b"{\"caption\": 'a', \"key\":\"a\",\"step\":3}",
    ] {
        assert_eq!(place(line), None, "{}", line.escape_ascii());
    }
}

/// JSON as Python writes it, with whatever `json.dumps` can make of odd values.
fn odd_json() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<f64>().prop_map(|number| format!("{number:?}").replace("inf", "Infinity")),
        any::<i128>().prop_map(|number| number.to_string()),
        (300usize..400).prop_map(|n| "-".to_owned() + &"7".repeat(n)),
        Just("null".to_owned()),
        Just("true".to_owned()),
    ];
    let text = prop_oneof![
        any::<String>().prop_map(|text| Value::from(text).to_string()),
        "[{}\\[\\],:NaInfity-]{0,8}".prop_map(|text| Value::from(text).to_string()),
        (0xd800u16..0xe000).prop_map(|unit| format!("\"\\u{unit:04x}\"")),
    ];
    prop_oneof![number, text].prop_recursive(5, 40, 4, |inner| {
        let many = proptest::collection::vec(inner.clone(), 0..4);
        let fields = proptest::collection::vec(("[ab]", inner.clone()), 0..4);
        prop_oneof![
            many.prop_map(|values| format!("[{}]", values.join(", "))),
            fields.prop_map(|fields| {
                let fields = fields.iter().map(|(name, value)| format!("\"{name}\": {value}"));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
            }),
            (inner, 1usize..300).prop_map(|(value, n)| "[".repeat(n) + &value + &"]".repeat(n)),
        ]
    })
}

proptest! {
    #[test]
    fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..80), text in "[{}\\[\\]\":,aNInfity\\\\-]{0,40}") {
        drop(parse_line(&line));
        drop(parse_line(text.as_bytes()));
    }

    #[test]
    fn what_python_writes_gives_an_image(values in proptest::collection::vec(odd_json(), 1..5)) {
        let fields: Vec<String> = ["caption", "grouping", "time", "loss", "é"]
            .iter()
            .zip(&values)
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        let line = format!("{{{},\"key\":\"k\",\"step\":3,\"data\":\"x.npy\"}}", fields.join(", "));
        let record = media(&line);
        prop_assert!(record.is_ok(), "{line}: {record:?}");
    }

    #[test]
    fn quoting_leaves_texts_alone(text in "[a-zN\\\\\"é]{0,20}") {
        let json = json!({"caption": text, "other": "NaN, -Infinity"}).to_string();
        prop_assert_eq!(quote_non_finite(&json).0, json);
    }
}
