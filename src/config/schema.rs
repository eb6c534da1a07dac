//! The JSON schema of the configuration file, from which the example, the reference page and the schema for editors
//! are generated.
//!
//! Names, doc comments, defaults and bounds come from the sections' types. What a type cannot say is an extension
//! (`extend("x-…" = …)`), which [`published`] leaves out:
//!
//! | extension | meaning |
//! | --- | --- |
//! | `x-restart` | a change takes effect at the next start, not at a reload |
//! | `x-set` | the example file sets it instead of showing it in a comment |
//! | `x-instead` | excludes other settings: the example file shows it in a table of its own, with this suffix |

use schemars::Schema;
use schemars::transform::{RecursiveTransform, Transform};

use super::file::ConfigFile;
use super::section_schema;

/// The schema of the configuration file, extensions included.
#[must_use]
pub fn annotated() -> Schema {
    section_schema::of::<ConfigFile>()
}

/// The schema of the configuration file, for editors.
#[must_use]
pub fn published() -> Schema {
    let mut schema = annotated();
    let mut strip = RecursiveTransform(|schema: &mut Schema| {
        if let Some(object) = schema.as_object_mut() {
            object.retain(|name, _| !name.starts_with("x-"));
        }
    });
    strip.transform(&mut schema);
    schema
}
