//! Segmentation masks.

use std::collections::HashSet;

use serde_json::Value;

use super::classes::read_labels_of;
use super::field_path::{AnnotationError, FieldPath};
use super::repairs::Repairs;
use crate::media::Json;
use crate::record::DataRef;

/// A mask as a record describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskSpec {
    /// Name of the mask.
    pub name: String,
    /// Where the mask is.
    pub data: MaskData,
    /// The labels given, an object. If `None`, they are generated from the values of the mask.
    pub class_labels: Option<Json>,
}

/// Where a mask is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskData {
    /// A tensor of class ids, or with `one_hot` of scores for each class.
    Tensor {
        /// The dump.
        data: DataRef,
        /// Whether the elements are scores, of which the greatest gives the class.
        one_hot: bool,
    },
    /// An image file, which is kept unchanged.
    File(DataRef),
}

impl MaskData {
    /// Returns the dump or the file.
    #[must_use]
    pub fn data(&self) -> &DataRef {
        match self {
            Self::Tensor { data, .. } | Self::File(data) => data,
        }
    }
}

impl MaskSpec {
    /// Whether the elements are scores, of which the greatest gives the class.
    #[must_use]
    pub fn is_one_hot(&self) -> bool {
        matches!(self.data, MaskData::Tensor { one_hot: true, .. })
    }
}

/// Reads one mask.
///
/// # Errors
/// If it is invalid. Invalid labels are dropped.
pub(super) fn read(
    name: &str,
    set: &Json,
    place: &FieldPath<'_>,
    repairs: &mut Repairs,
) -> Result<MaskSpec, AnnotationError> {
    const WANT: &str = "mask_data (a dump) or path (a mask file)";
    let Some(fields) = set.fields() else {
        return Err(place.error_at(set.text(), "an object with mask_data"));
    };
    let value_of = |name: &str| {
        let value = fields.get(name).map(|value| place.field(name).entry(value.text()));
        value.transpose()
    };
    let data_ref = |value: Value, place: FieldPath<'_>| {
        DataRef::from_value(value).map_err(|problem| place.problem(problem))
    };
    let one_hot = match value_of("one_hot")? {
        None | Some(Value::Null) => false,
        Some(Value::Bool(one_hot)) => one_hot,
        Some(Value::Number(number)) if number.as_f64() == Some(0.0) => false,
        Some(Value::Number(number)) if number.as_f64() == Some(1.0) => true,
        Some(other) => return Err(place.field("one_hot").error(&other, "true or false")),
    };
    let data = match (value_of("mask_data")?, value_of("path")?) {
        (Some(_), Some(_)) => {
            return Err(place.problem(format!("mask_data and path are both given, want {WANT}")));
        }
        (Some(value), None) => {
            MaskData::Tensor { data: data_ref(value, place.field("mask_data"))?, one_hot }
        }
        (None, Some(value)) => {
            let place = place.field("path");
            place.text(&value)?;
            MaskData::File(data_ref(value, place)?)
        }
        (None, None) => return Err(place.error_at(set.text(), WANT)),
    };
    let class_labels = read_labels_of(&fields, place, repairs);
    Ok(MaskSpec { name: name.to_owned(), data, class_labels })
}

/// Returns the dumps that the `masks` of a record refer to, each once. Invalid masks are skipped here; the
/// plan warns about them.
#[must_use]
pub fn mask_dumps(masks: &Json) -> Vec<DataRef> {
    let (mut dumps, mut seen) = (Vec::new(), HashSet::new());
    for masks in masks.entries().unwrap_or_else(|| vec![masks.clone()]) {
        for (_, mask) in masks.fields().unwrap_or_default() {
            let fields = mask.fields().unwrap_or_default();
            for data in ["mask_data", "path"].into_iter().filter_map(|name| fields.get(name)) {
                let data = FieldPath::root().entry(data.text()).map(DataRef::from_value);
                if let Ok(Ok(data)) = data
                    && seen.insert(data.clone())
                {
                    dumps.push(data);
                }
            }
        }
    }
    dumps
}
