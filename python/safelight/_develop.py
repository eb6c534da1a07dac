"""Pictures made in this process, without a daemon."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Mapping, Sequence

from ._choices import Alpha, Colormap, Compression, FileType, Format, Mode, Profile
from ._dumps import ELEMENT_SIZES, resolved, torch_format
from ._image import Image
from ._limits import RAW_TYPES
from ._native import Developed, native
from ._values import is_a, plain

__all__ = ["Picture", "develop", "memory_of", "record"]


class Picture:
    """A picture that `develop` has made: the file, and how its pixels came from the values.

    A notebook shows it. `save` writes the file.
    """

    __slots__ = ("_provenance", "data", "file_type", "mode", "sha256", "size", "warnings")

    data: bytes
    """The file."""
    file_type: str
    """The type of the file: `"png"`, `"jpg"`, `"jpeg"`, `"bmp"` or `"webp"`; `"gif"` or `"tiff"` for a file that was
    given."""
    mode: str | None
    """The kind of picture, as Pillow names it: `"L"`, `"RGB"`, …. `None` for files that were given, if not known."""
    size: tuple[int, int]
    """Columns and rows."""
    sha256: str
    """The digest of `data`, 64 hex digits."""
    warnings: list[str]
    """What is doubtful about the picture, such as values that were clipped, with what helps."""

    def __init__(self, made: Developed) -> None:
        self.data, self.file_type, self.mode, self.size, self.sha256, how, self.warnings = made
        self._provenance: dict[str, Any] = json.loads(how) if how else {}

    @property
    def png(self) -> bytes:
        """The file. Raises `ValueError` if its type is not png."""
        if self.file_type != "png":
            raise ValueError(f"got a picture of type {self.file_type}, want png; its file is in data")
        return self.data

    @property
    def rule(self) -> str | None:
        """The rule that turned values into bytes: `"x255"` ([0, 1] × 255), `"sym"` ([−1, 1] to 0 to 255), `"clip"`,
        `"range"`, `"none"` (bytes unchanged), …. `None` for an image file, which is kept as it is."""
        return self._provenance.get("rule")

    @property
    def format(self) -> str | None:
        """The meaning of the axes, such as `"HWC"`. `None` for an image file."""
        return self._provenance.get("format")

    @property
    def stats(self) -> dict[str, Any]:
        """Of the values before conversion: `min`, `max`, `mean`, `std` of the finite ones; `nan` and `inf`, their
        numbers; `clipped`, the share from 0 to 1 that was outside of the range; `constant`. Empty for an image
        file."""
        stats: dict[str, Any] = self._provenance.get("stats", {})
        return stats

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file. The type is `file_type`, even if the path has another ending."""
        with open(path, "wb") as file:
            file.write(self.data)

    def _repr_png_(self) -> bytes | None:
        return self.data if self.file_type == "png" else None

    def _repr_jpeg_(self) -> bytes | None:
        return self.data if self.file_type in ("jpg", "jpeg") else None

    def __repr__(self) -> str:
        width, height = self.size
        rule = f", rule {self.rule}" if self.rule else ""
        return f"<safelight.Picture {width}×{height} {self.mode or ''} {self.file_type}{rule}>"


def develop(
    data: Any,
    *,
    profile: Profile | None = None,
    format: Format | None = None,
    range: Sequence[float] | None = None,
    colormap: Colormap | None = None,
    nan_color: str | None = None,
    mode: Mode | None = None,
    alpha: Alpha | None = None,
    background: str | None = None,
    grid: bool | Mapping[str, int] | None = None,
    downscale: int | None = None,
    compression: Compression | None = None,
    palette: bool | None = None,
    file_type: FileType | None = None,
    quality: int | None = None,
) -> Picture | list[Picture]:
    """Makes the picture that the daemon would make of `data`, at once and in this process.

    `data` is anything that `Image` accepts, or an `Image`, whose own options count where none is given here; also
    the path or the bytes of a dump (npy, npz, safetensors, torch) with one tensor. The options are those of `Image`;
    without them, the profile is `"auto"` and the file a png. Arrays and tensors on the CPU are read where they lie,
    and other threads run in the meantime. An image file is kept as it is.

    Returns one `Picture`, or a list of them if `data` is a batch and no `grid` is wanted. Limits on the number of
    images do not apply.

    Raises `ImportError` without the extension (`pip install safelight[native]`), `TypeError` if `data` is nothing that
    makes pictures or lies on another device, such as CUDA; `ValueError` for a shape that makes no picture and an
    option that does not fit; `OSError` if a file cannot be read.
    """
    given = {
        "profile": profile,
        "format": format,
        "range": range,
        "colormap": colormap,
        "nan_color": nan_color,
        "mode": mode or None,
        "alpha": alpha,
        "background": background,
        "grid": grid,
        "downscale": downscale,
        "compression": compression,
        "palette": palette,
        "file_type": file_type or None,
        "quality": quality,
    }
    made, options = _developed(data, {name: value for name, value in given.items() if value is not None})
    pictures = [Picture(each) for each in made]
    is_batch = (pictures[0].format or "").startswith("N") and options.get("grid") in (None, False)
    return pictures if is_batch or len(pictures) > 1 else pictures[0]


def _developed(data: Any, given: Mapping[str, Any]) -> tuple[list[Developed], Mapping[str, Any]]:
    """Makes the pictures of `data`. Returns them with the options that count. Raises what `develop` does."""
    found = memory_of(data)
    if found is not None:
        memory, dtype, fields = found
        options = {**fields, **given}
        return native().develop(memory, record(options), dtype), options
    if isinstance(data, (str, os.PathLike)) and "://" not in os.fsdecode(data):
        with open(data, "rb") as file:
            return native().develop_file(file.read(), record(given)), given
    if isinstance(data, (bytes, bytearray)):
        return native().develop_file(bytes(data), record(given)), given
    image = Image(data, **given)
    if image._error is not None:
        raise image._error
    for name, problem in image._left_out.items():
        if name in _OPTIONS:
            raise problem
    dump = image._dump
    options = {name: value for name, value in image._fields.items() if name in _OPTIONS}
    if dump.extension == ".bin":
        (elements,) = dump.content()
        flat, shape = memoryview(elements).cast("B"), dump.shape or ()
        dtype = dump.description["dtype"]
        memory = flat.cast("B", shape) if dtype.startswith("float8") else flat.cast("H", shape)
        return native().develop(memory, record(options), dtype), options
    return native().develop_file(b"".join(dump.content()), record(options)), options


# Fields of an `Image` that `develop` has, too. What is beside the picture, such as boxes, does not count.
_OPTIONS = frozenset(develop.__kwdefaults__ or ())


def record(fields: Mapping[str, Any]) -> bytes:
    """The JSON of image options, as a line of a log has them. Empty if there are none."""
    fields = {name: plain(value) for name, value in fields.items() if value is not None}
    return json.dumps(fields).encode() if fields else b""


def memory_of(data: Any) -> tuple[Any, str | None, dict[str, str]] | None:
    """An object whose memory the extension can read in place, the type of the elements if the object cannot name it,
    and the fields that describe the axes. `None` if `data` is something else.

    Raises `TypeError` for a tensor that is not on the CPU.
    """
    if is_a(data, "numpy", "ndarray"):
        dtype = data.dtype
        # NumPy builds `dtype.name` anew each time, so this check comes first.
        if dtype.itemsize in ELEMENT_SIZES.get(dtype.kind, ()) or dtype.name not in RAW_TYPES:
            return data, None, {}
        return data.view("u1" if dtype.itemsize == 1 else "u2"), dtype.name, {}
    if is_a(data, "torch", "Tensor"):
        if data.device.type != "cpu":
            raise TypeError(
                f"got a tensor on {data.device}, want one on the CPU: pass in tensor.cpu(), or log it to a run"
            )
        if str(data.layout) != "torch.strided":
            raise TypeError(
                f"got a tensor of layout {data.layout}, want a dense one: pass in tensor.to_dense()"
            )
        tensor = resolved(data.detach())
        format = torch_format(tensor.shape)
        fields = {} if format is None else {"format": format}
        name = str(tensor.dtype).replace("torch.", "")
        if name in RAW_TYPES or name == "bool":
            # Not every release of torch passes these on.
            torch = sys.modules["torch"]
            return tensor.view(torch.uint8 if tensor.element_size() == 1 else torch.int16), name, fields
        return tensor, None, fields
    if (
        hasattr(data, "__dlpack__")
        or hasattr(data, "__array_interface__")
        and not is_a(data, "PIL.Image", "Image")
    ):
        return data, None, {}
    try:
        view = memoryview(data)
    except TypeError:
        return None
    # A flat row of bytes is a file.
    return None if view.ndim == 1 and view.format in ("B", "b", "c") else (view, None, {})
