//! Boxes and runs: their folders in the object store, and their ids in the scratch store. Pure.

use serde_json::Value;

use crate::media::{BoxName, NameError, RunId};

/// A run of a box.
///
/// In the scratch store its id is `BOX/RUN`. BOX is as in the name of the folder, and so has no slash: two runs never
/// have the same id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FleetRun {
    /// `runs/BOX/RUN`, as [`RunId::folder`] writes both.
    folder: String,
    of_box: String,
    run: String,
}

impl FleetRun {
    /// The run of these folders. `None` if no name is known whose folder `run_folder` is: long names are shortened.
    pub(super) fn of_folders(box_folder: &str, run_folder: &str) -> Option<Self> {
        let run = name_of(run_folder)?;
        Self::of_name(box_folder, &run)
    }

    /// The run of this name in the folder of a box.
    pub(super) fn of_name(box_folder: &str, run: &str) -> Option<Self> {
        if !is_folder(box_folder) {
            return None;
        }
        let folder = format!("runs/{box_folder}/{}", RunId::new(run).ok()?.folder());
        let of_box = name_of(box_folder).unwrap_or_else(|| box_folder.to_owned());
        Some(Self { folder, of_box, run: run.to_owned() })
    }

    /// The run of an id in the scratch store.
    pub(crate) fn of_id(id: &RunId) -> Option<Self> {
        let (box_folder, run) = id.as_str().split_once('/')?;
        Self::of_name(box_folder, run)
    }

    /// The run that a person names: `BOX/RUN`. A box whose name has other characters than letters, digits, `-`, `_` and
    /// `.` may be written as it is, unless it has a slash.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let (of_box, run) = text.split_once('/')?;
        Self::of_name(&box_folder(of_box)?, run)
    }

    /// The run's id in the scratch store.
    ///
    /// # Errors
    /// If it is too long.
    pub(crate) fn id(&self) -> Result<RunId, NameError> {
        let box_folder = self.folder.split('/').nth(1).unwrap_or_default();
        RunId::new(format!("{box_folder}/{}", self.run))
    }

    /// The run's folder in the object store.
    pub(crate) fn folder(&self) -> &str {
        &self.folder
    }

    /// The box, and the run.
    pub(crate) fn names(&self) -> (&str, &str) {
        (&self.of_box, &self.run)
    }

    /// The same run with the name of the box in its `run.json`, if it leads to its folder.
    pub(super) fn in_box(self, of_box: &str) -> Self {
        let folder = BoxName::new(of_box).map(|of_box| of_box.folder()).unwrap_or_default();
        if self.folder.split('/').nth(1) == Some(&*folder) {
            Self { of_box: of_box.to_owned(), ..self }
        } else {
            self
        }
    }

    /// Gives an item the names that it has in the object store: its box and run, and the objects as paths.
    pub(crate) fn name_item(&self, item: &mut Value, id: &RunId) {
        let folder = format!("runs/{}/", id.folder());
        let Value::Object(fields) = item else { return };
        fields.insert("run".to_owned(), self.run.as_str().into());
        fields.shift_insert(0, "box".to_owned(), self.of_box.as_str().into());
        let shorten = |of: &mut Value| {
            let Some(Value::String(path)) = of.get_mut("path") else { return };
            if let Some(name) = path.strip_prefix(&folder) {
                *path = name.to_owned();
            }
        };
        for kind in ["masks", "boxes"] {
            let sets = fields.get_mut(kind).and_then(Value::as_object_mut);
            sets.into_iter().flat_map(|sets| sets.values_mut()).for_each(shorten);
        }
        shorten(item);
    }
}

/// The folder of a box that a person names. A name that is a folder already stays.
pub(super) fn box_folder(of_box: &str) -> Option<String> {
    let is_encoded = name_of(of_box).is_some_and(|name| name != of_box);
    if is_encoded { Some(of_box.to_owned()) } else { Some(BoxName::new(of_box).ok()?.folder()) }
}

/// The name whose folder this is. `None` if it is no folder, or that of a name that was shortened.
fn name_of(folder: &str) -> Option<String> {
    let name = decoded(folder)?;
    RunId::new(&*name).is_ok_and(|name| name.folder() == folder).then_some(name)
}

/// Whether a text has only characters that a folder has.
fn is_folder(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.%".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(is_plain)
}

/// Replaces each `%XX` by its byte.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn folders_and_ids_lead_to_each_other() {
        for (folders, id, names) in [
            (("gpu-17", "exp1"), "gpu-17/exp1", ("gpu-17", "exp1")),
            (("gpu-17", "a%2Fb"), "gpu-17/a/b", ("gpu-17", "a/b")),
            (("rack%2F1", "r"), "rack%2F1/r", ("rack/1", "r")),
            (("gpu%2017", "%C3%A9"), "gpu%2017/é", ("gpu 17", "é")),
            // No box has such a folder: it stands for itself.
            (("gpu%2f1", "r"), "gpu%2f1/r", ("gpu%2f1", "r")),
        ] {
            let run = FleetRun::of_folders(folders.0, folders.1).expect("a run");
            assert_eq!(run.folder(), format!("runs/{}/{}", folders.0, folders.1));
            assert_eq!(run.names(), names);
            let got = run.id().expect("an id");
            assert_eq!(got.as_str(), id);
            assert_eq!(FleetRun::of_id(&got).as_ref(), Some(&run), "{id}");
        }
        for id in ["gpu-17", "../run", "gpu 17/run", "/run"] {
            assert_eq!(FleetRun::of_id(&RunId::new(id).expect("a name")), None, "{id}");
        }
    }

    #[test]
    fn a_name_that_is_shortened_is_known_by_itself_only() {
        let long = "x".repeat(300);
        let folder = RunId::new(&*long).expect("a name").folder();
        assert_eq!(FleetRun::of_folders("gpu", &folder), None);
        let run = FleetRun::of_name("gpu", &long).expect("a run");
        assert_eq!(run.folder(), format!("runs/gpu/{folder}"));
        let id = run.id().expect("an id");
        assert_eq!(FleetRun::of_id(&id).as_ref(), Some(&run));
        let in_long_box = FleetRun::of_folders(&folder, "r").expect("a run");
        assert_eq!(in_long_box.names(), (&*folder, "r"));
        assert_eq!(in_long_box.clone().in_box(&long).names(), (&*long, "r"));
        assert_eq!(in_long_box.clone().in_box("other"), in_long_box);
    }

    #[test]
    fn a_person_may_write_a_box_as_it_is_called() {
        for (text, folder) in [
            ("gpu-17/exp1", Some("runs/gpu-17/exp1")),
            ("gpu 17/a/b", Some("runs/gpu%2017/a%2Fb")),
            ("gpu%2017/a/b", Some("runs/gpu%2017/a%2Fb")),
            ("gpu-17", None),
            ("gpu-17/", None),
            ("/run", None),
        ] {
            let run = FleetRun::of_text(text);
            assert_eq!(run.as_ref().map(FleetRun::folder), folder, "{text}");
        }
    }

    #[test]
    fn an_item_gets_the_names_of_the_object_store() {
        let run = FleetRun::of_folders("gpu", "a%2Fb").expect("a run");
        let id = run.id().expect("an id");
        let folder = id.folder();
        let mut item = json!({
            "run": id.as_str(), "key": "k", "path": format!("runs/{folder}/media/aa/x.png"),
            "masks": {"gt": {"path": format!("runs/{folder}/media/bb/y.png")}},
        });
        run.name_item(&mut item, &id);
        let want = r#"{"box":"gpu","run":"a/b","key":"k","path":"media/aa/x.png","masks":{"gt":{"path":"media/bb/y.png"}}}"#;
        assert_eq!(item.to_string(), want);
    }
}
