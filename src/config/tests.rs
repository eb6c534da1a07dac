use super::retention::RetentionRules;
use super::*;
use crate::media::{ColorMode, MediaKey, Profile};
use crate::record::ImageOptions;

fn error(text: &str) -> String {
    parse(text, Path::new("/x/s.toml"))
        .map_or_else(|error| error.to_string(), |_| "fine".to_owned())
}

#[test]
fn errors_point_at_the_place_and_suggest() {
    let want = "/x/s.toml:2:1: unknown field `max_itms`, expected one of `max_items`";
    let got = error("[limits]\nmax_itms = 5\n");
    assert!(got.starts_with(want), "{got}");
    assert!(got.ends_with("\n  |\n2 | max_itms = 5\n  | ^ did you mean \"max_items\"?"), "{got}");
    for (text, want) in [
        ("[limits]\nmax_items = 0", "s.toml:2:13: "),
        ("[image]\nprofile = \"wandb-0.28\"", "s.toml:2:11: unknown variant `wandb-0.28`"),
        ("[[watch]]\npath = \"/d\"\ndumps = [\"{key}\"]", "pattern \"{key}\": {step} is missing"),
        ("[[watch]]\nruns = \"*\"", "missing field `path`"),
        ("[[image.rule]]\nkey = \"a[\"\n", "s.toml:2:7: "),
        ("[[image.rule]]\nkey = \"a\"\nrange = [3, 1]\n", "low < high"),
        ("x = ", "s.toml:1:5: "),
        ("store = \"x\"", "s.toml:1:9: got a string, want a table: [store]\n"),
        ("[[store]]\npath = \"x\"", "s.toml:1:1: got a list, want a table: [store]\n"),
        (
            "[sync]\na = \"secret\"",
            "s.toml:2:5: got a string, want a table: [sync.a]\n  |\n2 | a = …",
        ),
        ("[retention]\ndumps = 3", "s.toml:2:9: want a string\n"),
        ("[store]\npath = 3", "got integer `3`, want a path\n"),
    ] {
        let got = error(text);
        assert!(got.contains(want), "{text}: {got}");
    }
}

#[test]
fn every_number_has_bounds_and_an_error_names_them() {
    // 2^62 threads were a panic.
    for (text, want) in [
        (
            "[work]\nthreads = 4611686018427387904",
            "got integer `4611686018427387904`, want a whole number from 1 to 1024",
        ),
        ("[work]\nthreads = 0", "want a whole number from 1 to 1024"),
        ("[work]\nthreads = -1", "got integer `-1`, want a whole number from 1 to 1024"),
        ("[work]\nthreads = 1.5", "got floating point `1.5`, want a whole number from 1 to 1024"),
        ("[work]\nmemory_bytes_max = 1", "want a whole number from 1048576 to 1125899906842624"),
    ] {
        let got = error(text);
        assert!(got.contains(want) && got.contains("s.toml:2:"), "{text}: {got}");
    }
    let schema = serde_json::to_value(schema::published()).expect("JSON");
    let mut n_numbers = 0;
    check_numbers("", &schema, &mut n_numbers);
    assert!(n_numbers > 25, "{n_numbers}");
}

/// Checks that every whole number in a schema has both bounds.
fn check_numbers(path: &str, schema: &serde_json::Value, n_numbers: &mut usize) {
    if schema["type"] == "integer" {
        *n_numbers += 1;
        assert!(schema["minimum"].is_u64() && schema["maximum"].is_u64(), "{path}: {schema}");
    }
    match schema {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                check_numbers(&format!("{path}/{name}"), value, n_numbers);
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| check_numbers(path, value, n_numbers));
        }
        _ => {}
    }
}

#[test]
fn the_last_rule_that_matches_wins_field_by_field() {
    let text = "[image]\nprofile = \"wandb-0.20\"\n\
                [[image.rule]]\nkey = \"depth/*\"\nrange = [0, 80]\nmode = \"L\"\n\
                [[image.rule]]\nkey = \"*/raw\"\nprofile = \"auto\"\nmode = \"RGB\"\n";
    let config = parse(text, Path::new("/x")).unwrap_or_else(|error| panic!("{error}"));
    let of = |key| {
        config.live.rules.options(&MediaKey::new(key).unwrap_or_else(|error| panic!("{error}")))
    };
    assert_eq!(of("x"), ImageOptions { profile: Some(Profile::Wandb020), ..of("x") });
    let depth = of("depth/a/b");
    assert_eq!(
        (depth.profile, depth.range, depth.mode),
        (Some(Profile::Wandb020), Some((0.0, 80.0)), Some(ColorMode::L))
    );
    let both = of("depth/raw");
    assert_eq!(
        (both.profile, both.range, both.mode),
        (Some(Profile::Auto), Some((0.0, 80.0)), Some(ColorMode::Rgb))
    );
}

#[test]
fn relative_paths_start_at_the_file() {
    let config =
        parse("[store]\npath = \"s\"\n[[watch]]\npath = \"../runs\"\n", Path::new("/etc/x/s.toml"));
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (config.boot.store, config.live.watches[0].path.clone()),
        (PathBuf::from("/etc/x/s"), PathBuf::from("/etc/x/../runs"))
    );
}

#[test]
fn the_example_is_complete_and_holds_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/safelight.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}"));
    parse(&text, &path).unwrap_or_else(|error| panic!("{error}"));
    // With every setting that is commented out put to work, each section is the default.
    let uncommented: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with([' ', '#']) && !rest.is_empty())
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let shown = parse(&uncommented, &path).unwrap_or_else(|error| panic!("{error}"));
    let defaults = Config::default();
    assert_eq!(shown.live.limits, defaults.live.limits);
    assert_eq!(shown.live.times, defaults.live.times);
    assert_eq!(shown.live.read_bytes_per_s_max, defaults.live.read_bytes_per_s_max);
    assert_eq!(shown.live.log_level, defaults.live.log_level);
    let RetentionRules { dumps, dump_age_min, .. } = shown.live.retention;
    assert_eq!(dumps, defaults.live.retention.dumps);
    assert_eq!(dump_age_min, defaults.live.retention.dump_age_min);
    let Boot { n_threads, memory_bytes_max, dump_digest, nice, log_format, .. } = defaults.boot;
    let want =
        Boot { n_threads, memory_bytes_max, dump_digest, nice, log_format, ..shown.boot.clone() };
    assert_eq!(shown.boot, want);
    let kinds: Vec<&str> = shown.live.targets.iter().map(|target| target.kind.kind()).collect();
    assert_eq!(
        kinds,
        ["mlflow", "mlflow", "object_store", "tensorboard", "trackio", "trackio", "wandb"]
    );
}
