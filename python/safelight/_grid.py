"""`save_image`, with the parameters of torchvision."""

from __future__ import annotations

import os
import sys
from typing import Any, Callable

from ._develop import memory_of, record
from ._native import native
from ._values import is_a

__all__ = ["save_image"]


def save_image(
    tensor: Any,
    fp: Any,
    format: str | None = None,
    *,
    nrow: int = 8,
    padding: int = 2,
    normalize: bool = False,
    value_range: tuple[float, float] | None = None,
    scale_each: bool = False,
    pad_value: float = 0.0,
) -> None:
    """Saves a tensor, a batch or a list of tensors as one picture: `torchvision.utils.save_image`, faster.

    The pixels are those of torchvision. `tensor` is a torch tensor or a NumPy array, (H, W), (C, H, W) or (N, C, H, W),
    or a list of (C, H, W) of the same size. Floats in [0, 1] become 0 to 255, rounded; others are clipped. A batch
    becomes a grid of `nrow` columns, with `padding` pixels of `pad_value` around each picture; one channel becomes
    three. `normalize` shifts the values to [0, 1]: from `value_range`, or from their minimum and maximum, those of
    each picture if `scale_each`.

    `fp` is a path or a file that can be written; `format` is its type, else the path's ending: png, jpg, jpeg, bmp or
    webp. Unlike torchvision it takes uint8, which is stored as it is, and calculates in the tensor's own type.

    Raises `ImportError` without the extension, `TypeError` and `ValueError` for other types, shapes and formats,
    `OSError` if the file cannot be written.

    Source: torchvision 0.14 and 0.26, `utils.py`, `make_grid` and `save_image`.
    """
    file_type = _file_type(fp, format)
    pictures = stacked(tensor)
    if pictures.ndim == 2:
        pictures = pictures[None]
    if pictures.ndim == 3:
        pictures = pictures[None]
    if pictures.ndim != 4:
        raise ValueError(f"got {pictures.ndim} axes, want (H, W), (C, H, W) or (N, C, H, W)")
    dtype = str(pictures.dtype).rpartition(".")[2]
    if dtype not in ("float16", "bfloat16", "float32", "float64", "uint8"):
        raise TypeError(f"got elements of type {dtype}, want floats or uint8")
    is_narrow = dtype in ("float16", "bfloat16")
    rounded: Callable[[Any], Any] = _same
    if is_narrow and not is_a(pictures, "torch", "Tensor"):
        # torch calculates in float32, and rounds each number that it takes or gives.
        pictures, rounded = pictures.astype("f4"), _rounded_to(pictures.dtype)
    if normalize:
        if dtype == "uint8":
            raise TypeError("got uint8 with normalize, want floats: pass in tensor / 255")
        if value_range is not None and not isinstance(value_range, tuple):
            raise TypeError(f"got a value_range of type {type(value_range).__name__}, want a tuple (min, max)")
        pictures = _normalized(pictures, value_range, scale_each, rounded)
    given: dict[str, Any] = {
        "format": "NCHW",
        "grid": {"nrow": nrow, "padding": padding},
        "mode": "RGB" if pictures.shape[1] == 1 else None,
        "file_type": file_type,
    }
    if is_narrow:
        pictures = _bytes_of(pictures, rounded)
    elif dtype != "uint8":
        # The extension calculates as torch does.
        given["range"] = (0, 1)
    fill = int(min(max(pad_value * 255 + 0.5, 0), 255))
    if is_a(pictures, "torch", "Tensor"):
        pictures = pictures.cpu()
    found = memory_of(pictures)
    (made,) = native().develop(pictures if found is None else found[0], record(given), None, fill)
    if hasattr(fp, "write"):
        fp.write(made[0])
    else:
        with open(fp, "wb") as file:
            file.write(made[0])


def _file_type(fp: Any, format: str | None) -> str:
    if format is None and not hasattr(fp, "write"):
        format = os.path.splitext(os.fspath(fp))[1]
    return (os.fsdecode(format or "png")).lower().lstrip(".")


def stacked(tensor: Any) -> Any:
    """The tensor or array, without gradient. A list becomes a batch."""
    if isinstance(tensor, (list, tuple)):
        if not tensor:
            raise ValueError("got an empty list, want tensors")
        is_torch = is_a(tensor[0], "torch", "Tensor")
        return (sys.modules["torch"] if is_torch else _numpy()).stack([stacked(one) for one in tensor])
    if is_a(tensor, "torch", "Tensor"):
        return tensor.detach()
    if hasattr(tensor, "shape") or hasattr(tensor, "__array__"):
        return _numpy().asarray(tensor)
    raise TypeError(f"got a {type(tensor).__name__}, want a tensor, an array or a list of them")


def _numpy() -> Any:
    # A caller that has an array has imported it already.
    return sys.modules["numpy"]


def _same(values: Any) -> Any:
    return values


def _rounded_to(dtype: Any) -> Callable[[Any], Any]:
    return lambda values: _numpy().asarray(values).astype(dtype).astype("f4")


def _normalized(
    pictures: Any, value_range: tuple[float, float] | None, scale_each: bool, rounded: Callable[[Any], Any]
) -> Any:
    """Shifts the values to [0, 1], as `make_grid` does."""
    pictures = pictures.clone() if hasattr(pictures, "clone") else pictures.copy()
    for part in pictures if scale_each else [pictures]:
        low, high = (float(part.min()), float(part.max())) if value_range is None else value_range
        part[...] = part.clip(rounded(low), rounded(high))
        part[...] = rounded(part - rounded(low))
        part[...] = rounded(part / rounded(max(high - low, 1e-5)))
    return pictures


def _bytes_of(pictures: Any, rounded: Callable[[Any], Any]) -> Any:
    """The bytes that `save_image` makes of values, calculated in their type."""
    scaled = rounded(rounded(pictures * 255) + 0.5).clip(0, 255)
    if is_a(pictures, "torch", "Tensor"):
        return scaled.to(sys.modules["torch"].uint8)
    with _numpy().errstate(invalid="ignore"):
        return scaled.astype("u1")
