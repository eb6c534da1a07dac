//! The names of functions and types in pickles.

use std::borrow::Cow;
use std::sync::Arc;

use crate::media::shortened;
use crate::tensor::DType;

/// The longest name that is shown, in characters.
const NAME_CHARS_MAX: usize = 80;

/// The name of a function or a type.
#[derive(Debug, Clone)]
pub(in crate::decode::torch) enum Global {
    OrderedDict,
    /// `defaultdict(factory)`.
    DefaultDict,
    /// `set` or `frozenset`.
    Set,
    /// `_rebuild_tensor(storage, offset, size, stride)` and `_rebuild_tensor_v2`, whose further arguments
    /// do not matter.
    Tensor,
    /// `_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype)`.
    TensorV3,
    /// `_rebuild_parameter(tensor, requires_grad, hooks)`, and `_rebuild_parameter_with_state`, which has a
    /// state as its fourth argument.
    Parameter,
    /// `_rebuild_from_type_v2(function, type, arguments, state)`: a tensor that is a subclass or has
    /// attributes.
    FromType,
    /// `_rebuild_device_tensor_from_numpy(array, dtype, …)` and `…_from_cpu_tensor(tensor, dtype, …)`.
    DeviceTensor,
    /// A function that makes a tensor that is not a view of a storage, and what such a tensor is.
    OtherTensor(&'static str),
    /// `torch.Size(axes)`.
    Size,
    /// The class of storages of this element type; `None` for storages of bytes.
    Storage(Option<DType>),
    DType(DType),
    /// `numpy.ndarray`.
    ArrayClass,
    /// `numpy.core.multiarray._reconstruct(class, shape, type)`.
    Array,
    /// `numpy.dtype(kind, align, copy)`.
    ArrayType,
    /// `_codecs.encode(text, encoding)`.
    Encode,
    /// Any other name.
    Other(Arc<str>),
}

impl Global {
    /// Looks up a name.
    pub(super) fn of(module: &str, name: &str) -> Self {
        let known = match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("collections", "defaultdict") => Some(Self::DefaultDict),
            ("builtins" | "__builtin__", "set" | "frozenset") => Some(Self::Set),
            ("torch._utils", name) => torch_function(name),
            ("torch._tensor", "_rebuild_from_type" | "_rebuild_from_type_v2") => {
                Some(Self::FromType)
            }
            ("torch", "Size") => Some(Self::Size),
            ("torch" | "torch.storage", "UntypedStorage" | "_UntypedStorage") => {
                Some(Self::Storage(None))
            }
            ("torch", name) => match name.strip_suffix("Storage") {
                Some(kind) => storage_type(kind).map(|dtype| Self::Storage(Some(dtype))),
                None => DType::from_name(name).map(Self::DType),
            },
            ("numpy", "ndarray") => Some(Self::ArrayClass),
            ("numpy", "dtype") => Some(Self::ArrayType),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Some(Self::Array)
            }
            ("_codecs", "encode") => Some(Self::Encode),
            _ => None,
        };
        known.unwrap_or_else(|| {
            Self::Other(shortened(format!("{module}.{name}"), NAME_CHARS_MAX).into())
        })
    }

    /// The name, for people.
    pub(super) fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Other(name) => Cow::Borrowed(name),
            Self::DType(dtype) => Cow::Owned(format!("torch.{dtype}")),
            Self::OrderedDict => "collections.OrderedDict".into(),
            Self::DefaultDict => "collections.defaultdict".into(),
            Self::Set => "set".into(),
            Self::Size => "torch.Size".into(),
            Self::Storage(_) => "a class of storages".into(),
            Self::ArrayClass => "numpy.ndarray".into(),
            Self::ArrayType => "numpy.dtype".into(),
            _ => "a function that makes tensors".into(),
        }
    }
}

/// Looks up a function of `torch._utils`. Its functions `_rebuild_*` make tensors.
fn torch_function(name: &str) -> Option<Global> {
    Some(match name {
        "_rebuild_tensor" | "_rebuild_tensor_v2" => Global::Tensor,
        "_rebuild_tensor_v3" => Global::TensorV3,
        "_rebuild_parameter" | "_rebuild_parameter_with_state" => Global::Parameter,
        "_rebuild_device_tensor_from_numpy" | "_rebuild_device_tensor_from_cpu_tensor" => {
            Global::DeviceTensor
        }
        "_rebuild_xla_tensor" | "_rebuild_hpu_tensor" => Global::DeviceTensor,
        "_rebuild_qtensor" => Global::OtherTensor("a quantized tensor; save t.dequantize()"),
        "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => {
            Global::OtherTensor("a sparse tensor; save t.to_dense()")
        }
        "_rebuild_nested_tensor" => Global::OtherTensor("a nested tensor; save its parts"),
        "_rebuild_meta_tensor_no_storage" => {
            Global::OtherTensor("a meta tensor, which has no data")
        }
        name if name.starts_with("_rebuild_") => {
            Global::OtherTensor("a tensor that is not a view of a storage; save a plain tensor")
        }
        _ => return None,
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
