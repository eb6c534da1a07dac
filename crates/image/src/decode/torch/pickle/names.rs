//! The names that a pickle of tensors may refer to.

use crate::decode::DecodeError;
use crate::tensor::DType;

/// A name that a pickle of tensors may refer to.
#[derive(Debug, Clone, Copy)]
pub(in crate::decode::torch) enum Global {
    OrderedDict,
    /// `_rebuild_tensor(storage, offset, size, stride)` and `_rebuild_tensor_v2`, whose further arguments
    /// do not matter.
    Tensor,
    /// `_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype)`.
    TensorV3,
    /// `_rebuild_parameter(tensor, requires_grad, hooks)`.
    Parameter,
    /// `torch.Size(axes)`.
    Size,
    /// The class of storages of this element type; `None` for storages of bytes.
    Storage(Option<DType>),
    DType(DType),
    /// A name whose result no tensor depends on.
    Other,
}

/// Looks up a name.
///
/// # Errors
/// `Unsupported` if no tensor needs it.
pub(super) fn global(module: &str, name: &str) -> Result<Global, DecodeError> {
    let known = match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::Tensor),
        ("torch._utils", "_rebuild_tensor_v3") => Some(Global::TensorV3),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Some(Global::Parameter)
        }
        ("torch", "Size") => Some(Global::Size),
        ("torch", "device") | ("_codecs", "encode") | ("__builtin__" | "builtins", "bytes") => {
            Some(Global::Other)
        }
        ("torch" | "torch.storage", "UntypedStorage" | "_UntypedStorage") => {
            Some(Global::Storage(None))
        }
        ("torch", name) => match name.strip_suffix("Storage") {
            Some(kind) => storage_type(kind).map(|dtype| Global::Storage(Some(dtype))),
            None => dtype(name),
        },
        _ => None,
    };
    known.ok_or_else(|| {
        let shown: String = format!("{module}.{name}").chars().take(80).collect();
        let what = format!("a pickle that names {shown}, which no tensor needs; it is not run");
        DecodeError::Unsupported(what)
    })
}

fn storage_type(kind: &str) -> Option<DType> {
    Some(match kind {
        "Bool" => DType::Bool,
        "Byte" => DType::U8,
        "Char" => DType::I8,
        "Short" => DType::I16,
        "Int" => DType::I32,
        "Long" => DType::I64,
        "Half" => DType::F16,
        "BFloat16" => DType::BF16,
        "Float" => DType::F32,
        "Double" => DType::F64,
        "ComplexFloat" => DType::Complex64,
        "ComplexDouble" => DType::Complex128,
        _ => return None,
    })
}

/// Looks up an element type or a layout. Types that make no picture are known, too: they may stand beside
/// tensors.
fn dtype(name: &str) -> Option<Global> {
    const NO_PICTURE: [&str; 7] = [
        "complex32",
        "float4_e2m1fn_x2",
        "qint8",
        "quint8",
        "qint32",
        "strided",
        "preserve_format",
    ];
    let is_known = NO_PICTURE.contains(&name);
    DType::from_name(name).map(Global::DType).or(is_known.then_some(Global::Other))
}
