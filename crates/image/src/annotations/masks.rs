//! Segmentation masks. Pure.

use serde_json::Value;

use super::classes::read_labels;
use super::place::{AnnotationError, Place};
use crate::media::ClassLabels;
use crate::record::DataRef;

/// One mask, as a record describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskSpec {
    /// The name of its set.
    pub name: String,
    /// Where it is.
    pub data: MaskData,
    /// The labels that were given; where none were, they are generated from its values.
    pub class_labels: Option<ClassLabels>,
}

/// Where a mask is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskData {
    /// A tensor of class ids; with `one_hot`, of a score for each class.
    Tensor {
        /// The dump.
        data: DataRef,
        /// Whether the greatest score tells the class.
        one_hot: bool,
    },
    /// An image file that is a mask already, and kept as it is.
    File(DataRef),
}

impl MaskData {
    /// The file.
    #[must_use]
    pub fn data(&self) -> &DataRef {
        match self {
            Self::Tensor { data, .. } | Self::File(data) => data,
        }
    }
}

impl MaskSpec {
    /// Whether the greatest score tells the class.
    #[must_use]
    pub fn is_one_hot(&self) -> bool {
        matches!(self.data, MaskData::Tensor { one_hot: true, .. })
    }
}

pub(super) fn read(
    name: &str,
    set: &Value,
    place: &Place<'_>,
) -> Result<MaskSpec, AnnotationError> {
    const WANT: &str = "mask_data (a dump) or path (a mask file)";
    let Value::Object(fields) = set else {
        return Err(place.error(set, "an object with mask_data"));
    };
    let data_ref = |value: &Value, place: Place<'_>| {
        DataRef::from_value(value.clone()).map_err(|problem| place.problem(problem))
    };
    let one_hot = match fields.get("one_hot") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(one_hot)) => *one_hot,
        Some(other) => return Err(place.field("one_hot").error(other, "true or false")),
    };
    let data = match (fields.get("mask_data"), fields.get("path")) {
        (Some(_), Some(_)) => {
            return Err(place.problem(format!("mask_data and path are both given, want {WANT}")));
        }
        (Some(value), None) => {
            MaskData::Tensor { data: data_ref(value, place.field("mask_data"))?, one_hot }
        }
        (None, Some(value)) => {
            let place = place.field("path");
            place.text(value)?;
            MaskData::File(data_ref(value, place)?)
        }
        (None, None) => return Err(place.error(set, WANT)),
    };
    let class_labels = match fields.get("class_labels") {
        None | Some(Value::Null) => None,
        Some(given) => Some(read_labels(given, &place.field("class_labels"))?),
    };
    Ok(MaskSpec { name: name.to_owned(), data, class_labels })
}

/// The dumps that the `masks` of a record name, each once. What can't be read is left to the plan.
#[must_use]
pub fn mask_dumps(masks: &Value) -> Vec<DataRef> {
    let of_image = |masks: &Value| match masks {
        Value::Object(sets) => sets.values().cloned().collect(),
        _ => Vec::new(),
    };
    let sets: Vec<Value> = match masks {
        Value::Array(images) => images.iter().flat_map(of_image).collect(),
        masks => of_image(masks),
    };
    let mut dumps: Vec<DataRef> = Vec::new();
    for set in sets {
        let named = ["mask_data", "path"].into_iter().filter_map(|name| set.get(name));
        for data in named.filter_map(|value| DataRef::from_value(value.clone()).ok()) {
            if !dumps.contains(&data) {
                dumps.push(data);
            }
        }
    }
    dumps
}
