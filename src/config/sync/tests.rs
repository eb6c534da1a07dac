use std::path::Path;

use super::*;
use crate::config::{Config, parse};
use crate::secrets::SecretSource;

fn config(text: &str) -> Result<Config, String> {
    parse(text, Path::new("/etc/safelight/s.toml")).map_err(|error| error.to_string())
}

#[test]
fn a_target_is_what_its_kind_says() {
    let text = "[sync.team]\nkind = \"mlflow\"\nurl = \"https://m.example\"\ntoken = { file = \"key\" }\n\
                runs = [\"a*\"]\nexclude = [\"debug/*\"]\n\
                [sync.disk]\nkind = \"tensorboard\"\npath = \"tb\"\n";
    let config = config(text).expect("a configuration");
    let [disk, team] = &config.live.targets[..] else { panic!("{:?}", config.live.targets) };
    let file = SecretSource::File("/etc/safelight/key".into());
    let TargetConfig::Mlflow(mlflow) = &team.kind else { panic!("{team:?}") };
    assert_eq!((mlflow.token.clone(), mlflow.experiment.as_str()), (Some(file), "Default"));
    let tensorboard = TensorboardConfig { path: "/etc/safelight/tb".into(), overlays: true };
    assert_eq!(disk.kind, TargetConfig::Tensorboard(tensorboard));
    let run = |id| RunId::new(id).expect("a run");
    let key = |key| MediaKey::new(key).expect("a key");
    assert!(team.selection.has_run(&run("ab")) && !team.selection.has_run(&run("b")));
    assert!(team.selection.has_key(&key("val")) && !team.selection.has_key(&key("debug/x/y")));
}

#[test]
fn what_a_target_can_not_have_is_refused_at_its_place() {
    for (text, want) in [
        ("kind = \"mlfow\"", "s.toml:2:8: unknown variant `mlfow`"),
        ("kind = \"mlflow\"", "wants `url`, such as \"https://"),
        ("kind = \"mlflow\"\nurl = \"ftp://x\"", "want one of http, https"),
        ("kind = \"mlflow\"\nurl = \"https://x\"\nusername = \"a\"", "go together"),
        (
            "kind = \"tensorboard\"\npath = \"/x\"\nurl = \"https://x\"",
            "s.toml:4:1: unknown field `url`",
        ),
        ("kind = \"tensorboard\"\npth = \"/x\"", "s.toml:3:1: unknown field `pth`"),
        ("kind = \"trackio\"\nurl = \"http://x\"\npath = \"/x\"", "either `path`"),
        (
            "kind = \"wandb\"\npath = \"/x\"\nsegment_idle_s = 901",
            "want a whole number from 1 to 900",
        ),
        ("kind = \"object_store\"\nurl = \"ftp://x\"", "want one of s3, gs, az, file"),
        ("path = \"/x\"", "missing field `kind`"),
        ("kind = \"tensorboard\"\npath = \"/x\"\nconcurrency_max = 0", "s.toml:4:19: "),
    ] {
        let got = config(&format!("[sync.x]\n{text}\n")).expect_err(text);
        assert!(got.contains(want), "{text}: {got}");
    }
}

#[test]
fn a_secret_in_the_configuration_is_refused_and_not_repeated() {
    for text in [
        "kind = \"mlflow\"\nurl = \"https://x\"\ntoken = \"hunter2\"",
        "kind = \"mlflow\"\nurl = \"https://me:hunter2@x\"",
        "kind = \"object_store\"\nurl = \"s3://b\"\nsecret_access_key = \"hunter2\"",
        "kind = \"mlflow\"\nurl = \"https://x\"\n  token=[\"hunter2\"]",
        "kind = \"mlflow\"\nurl = \"https://x\"\ntokn = \"hunter2\"",
        "kind = \"mlflow\"\nurl = \"https://x\"\ntoken = 42424242",
        "kind = \"mlflow\"\nurl = \"https://x\"\ntoken = { file = 42424242 }",
    ] {
        let got = parse(&format!("[ sync.x ]\n{text}\n"), Path::new("/s.toml")).expect_err(text);
        let wants = ["must not contain a secret", "want { credential", "unknown field `tokn`"];
        assert!(wants.iter().any(|want| got.message.contains(want)), "{got}");
        let is_hidden = |secret| !got.to_string().contains(secret);
        assert!(is_hidden("hunter2") && is_hidden("42424242"), "{got}");
    }
    for text in
        ["[sync]\nx = { kind = \"mlflow\", tokn = \"hunter2\" }\n", "sync.x.tokn = \"hunter2\"\n"]
    {
        let got = parse(text, Path::new("/s.toml")).expect_err(text).to_string();
        assert!(!got.contains("hunter2"), "{got}");
    }
}
