"""Dumps: the files that log lines name, made from the values of any library.

Nothing here imports NumPy, torch, Pillow or matplotlib: a caller that passes in one of their objects has
imported the library already.
"""

from __future__ import annotations

import array
import functools
import io
import numbers
import os
import re
import struct
import sys
from typing import Any, Mapping, Sequence

from ._copies import copied
from ._cuda import Pending
from ._files import Unnamed, folder_of_unnamed
from ._limits import RAW_TYPES
from ._values import is_a

__all__ = [
    "ELEMENT_SIZES",
    "Dump",
    "dump_from",
    "dump_from_mask",
    "dump_from_path",
    "npy",
    "resolved",
    "torch_format",
]

# Size from which a copy goes to an unnamed file. A copy in memory is as fast for smaller arrays.
_UNNAMED_BYTES_MIN = 1 << 20


_NOTHING: Mapping[str, Any] = {}


class Dump:
    """A file to write: complete in memory, or on disk and waiting for its name. Never changes."""

    __slots__ = (
        "descr",
        "description",
        "extension",
        "fields",
        "file",
        "n_bytes",
        "parts",
        "pending",
        "shape",
    )

    def __init__(
        self,
        extension: str,
        parts: Sequence[bytes],
        description: Mapping[str, Any] = _NOTHING,
        fields: Mapping[str, Any] = _NOTHING,
        file: Unnamed | None = None,
        shape: tuple[int, ...] | None = None,
        descr: str | None = None,
        pending: Pending | None = None,
    ) -> None:
        self.extension = extension
        # Buffers of bytes.
        self.parts = parts
        # Fields of the log line that describe the file, beside its path.
        self.description = description
        # Fields of the log line that describe the picture. Those of the caller win.
        self.fields = fields
        # The file on disk. If it is set, `parts` is empty.
        self.file = file
        # The lengths of an array's axes. `None` for other files.
        self.shape = shape
        # The element type of an npy file, as NumPy writes it.
        self.descr = descr
        # Elements that are still on their way from another device. They come after `parts`.
        self.pending = pending
        n_bytes = 0 if file is None else file.n_bytes
        for part in parts:
            n_bytes += len(part)
        self.n_bytes = n_bytes if pending is None else n_bytes + pending.n_bytes

    def but(self, **changes: Any) -> Dump:
        """Returns the dump with these attributes changed."""
        names = ("extension", "parts", "description", "fields", "file", "shape", "descr", "pending")
        return Dump(**{**{name: getattr(self, name) for name in names}, **changes})

    def content(self) -> Sequence[bytes]:
        """Returns the bytes of the file. Waits for those that are pending."""
        if self.file is not None:
            return [self.file.content()]
        return self.parts if self.pending is None else [*self.parts, self.pending.elements()]

    @property
    def array_bytes(self) -> int:
        """Bytes of the elements alone. Not for an array on disk."""
        return self.n_bytes if self.descr is None else self.n_bytes - len(self.parts[0])

    def raw(self) -> tuple[bytes, Mapping[str, Any]]:
        """Returns the elements of an array alone, and what describes them in a line. Not for one on disk."""
        description = (
            self.description if self.descr is None else _raw_description(self.descr, self.shape or ())
        )
        return self.content()[-1], description

    def __reduce__(self) -> Any:
        # Another process does not have the file open, so the bytes themselves are pickled.
        parts = [bytes(part) for part in self.content()]
        return Dump, (self.extension, parts, self.description, self.fields, None, self.shape, self.descr)


_NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"

# Element sizes in bytes, for each kind of element that npy files have and pictures can be made of.
ELEMENT_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}

# Names of these kinds without a number of bits.
_RAW_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}

# Kind of each native type, by its code in `memoryview.format`.
_BUFFER_KINDS = {"?": "b", **dict.fromkeys("bhilqn", "i"), **dict.fromkeys("BHILQN", "u")}
_BUFFER_KINDS.update({"e": "f", "f": "f", "d": "f", "Zf": "c", "Zd": "c"})

# First bytes of the image files that the daemon stores unchanged.
_IMAGE_FILES = [
    (".png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    (".jpg", re.compile(rb"\xff\xd8\xff")),
    (".gif", re.compile(rb"GIF8[79]a")),
    (".bmp", re.compile(rb"BM")),
    (".webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    (".tiff", re.compile(rb"II[*+]\x00|MM\x00[*+]")),
]
_MAGIC_BYTES = 12

# Number of channels, for each mode of Pillow whose bytes are the pixels.
_PIXEL_MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}

# NumPy type, for each mode of Pillow whose bytes are numbers, such as class ids.
_NUMBER_MODES = {"L": "|u1", "P": "|u1", "I": _NATIVE_ORDER + "i4", "F": _NATIVE_ORDER + "f4"}
_NUMBER_MODES.update({"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": _NATIVE_ORDER + "u2"})


def npy(descr: str, shape: Sequence[int], elements: bytes) -> Dump:
    """An npy file of these elements, in C order."""
    shape = tuple(map(int, shape))
    return Dump(".npy", (_npy_start(descr, shape), elements), _NOTHING, _NOTHING, None, shape, descr)


@functools.lru_cache(maxsize=256)
def _raw_description(descr: str, shape: tuple[int, ...]) -> Mapping[str, Any]:
    """Returns what a log line says of bare elements of a type that npy files have."""
    kind, size = _RAW_KINDS[descr[1]], int(descr[2:])
    description: dict[str, Any] = {"dtype": kind if kind == "bool" else f"{kind}{8 * size}"}
    description["shape"] = list(shape)
    if size > 1:
        description["byte_order"] = "big" if descr[0] == ">" else "little"
    return description


# A training logs arrays of the same few types and shapes again and again.
@functools.lru_cache(maxsize=256)
def _npy_start(descr: str, shape: tuple[int, ...]) -> bytes:
    """Returns the bytes that precede the elements in an npy file of version 1.0.

    | bytes | what |
    | --- | --- |
    | 8 | `\\x93NUMPY`, major version, minor version |
    | 2 | header length, little-endian |
    | header length | a Python dict, padded so that the elements begin at a multiple of 64 |
    | shape × element size | the elements |

    Source: `numpy/lib/format.py`, NumPy 2.4.
    """
    header = "{'descr': %r, 'fortran_order': False, 'shape': %r, }" % (descr, shape)
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("ascii")


def _raw(dtype: str, shape: Sequence[int], elements: bytes) -> Dump:
    """A file of bare elements, for types that npy files cannot name, such as bfloat16."""
    shape = tuple(map(int, shape))
    description = {"dtype": dtype, "shape": list(shape), "byte_order": sys.byteorder}
    return Dump(".bin", (elements,), description, shape=shape)


def _dump_from_file(content: bytes) -> Dump:
    """An encoded picture. Its first bytes decide the file type.

    Raises `ValueError` if it is no png, jpg, gif, bmp, webp or tiff.
    """
    for extension, magic in _IMAGE_FILES:
        if magic.match(content):
            return Dump(extension, (content,))
    got = "nothing (was it read before?)" if not content else repr(content[:_MAGIC_BYTES])
    raise ValueError(f"got {got}, want the bytes of a png, jpg, gif, bmp, webp or tiff file")


def dump_from_path(path: str) -> Dump:
    if re.match(r"(https?|s3|gs)://", path):
        raise ValueError(f"got an address, want an image file on this machine (download it first): {path}")
    with open(path, "rb") as file:
        start = file.read(_MAGIC_BYTES)
        try:
            # Check the first bytes before reading on: the file may be a large checkpoint, or endless.
            _dump_from_file(start)
        except ValueError as error:
            raise ValueError(f"{error}: {path}") from None
        return _dump_from_file(start + file.read())


def _dump_from_ndarray(values: Any, is_ours: bool = False) -> Dump:
    """A `numpy.ndarray` of any shape, strides and byte order.

    Copies the elements. `is_ours` says that nobody changes the array any more; then one in C order is not
    copied. Raises `TypeError` if no picture can be made of the element type.
    """
    dtype = values.dtype
    # This check comes first, because NumPy builds `dtype.name` anew each time.
    is_npy = dtype.itemsize in ELEMENT_SIZES.get(dtype.kind, ())
    if not is_npy and dtype.name not in RAW_TYPES:
        raise TypeError(f"got elements of type {dtype}, want bool, or numbers of up to 64 bits a part")
    folder = folder_of_unnamed() if values.nbytes >= _UNNAMED_BYTES_MIN and not is_ours else None
    is_in_place = (is_ours or folder is not None) and values.flags.c_contiguous
    elements = values.reshape(-1).view("u1").data if is_in_place else copied(values)
    if is_npy:
        descr, shape = dtype.str, values.shape
        dump = Dump(".npy", (_npy_start(descr, shape), elements), _NOTHING, _NOTHING, None, shape, descr)
    else:
        dump = _raw(dtype.name, values.shape, elements)
    return dump if folder is None or not is_in_place else _on_disk(dump, folder)


def _on_disk(dump: Dump, folder: str) -> Dump:
    """Copies a dump into an unnamed file in `folder`, or in memory if there can be none."""
    try:
        return dump.but(parts=(), file=Unnamed(folder, dump.parts))
    except OSError:
        # Unnamed files are not supported, the disk is full, or no descriptor is left. `log` writes the
        # copy in the usual way, and reports a failure.
        return dump.but(parts=[bytes(part) for part in dump.parts])


# NumPy types, for the types of torch that it has.
_TORCH_TYPES = {"bool": "|b1", "uint8": "|u1", "int8": "|i1"}
_TORCH_TYPES.update(
    {f"{kind}{8 * n}": f"{_NATIVE_ORDER}{kind[0]}{n}" for kind in ("int", "uint") for n in (2, 4, 8)}
)
_TORCH_TYPES.update({f"float{8 * n}": f"{_NATIVE_ORDER}f{n}" for n in (2, 4, 8)})
_TORCH_TYPES.update({f"complex{8 * n}": f"{_NATIVE_ORDER}c{n}" for n in (8, 16)})


def _dump_from_torch(tensor: Any, is_donated: bool) -> Dump:
    """A `torch.Tensor` on any device, of any strides, with or without gradient.

    Channels come first, as usual in torch. If that gave more than four channels, the log line names no
    format, and the daemon guesses it from the shape.
    """
    tensor = resolved(tensor.detach())
    dtype = str(tensor.dtype).replace("torch.", "")
    dump = _dump_from_cuda(tensor, dtype, is_donated) if tensor.device.type == "cuda" else None
    if dump is None:
        is_ours = is_donated or tensor.device.type != "cpu"
        tensor = tensor.cpu()
        if dtype in RAW_TYPES:
            torch = sys.modules["torch"]
            # NumPy has no such type, but takes the same bits under another name.
            bits = tensor.view(torch.uint8 if tensor.element_size() == 1 else torch.int16).numpy()
            is_in_place = is_ours and bits.flags.c_contiguous
            elements = bits.reshape(-1).view("u1").data if is_in_place else copied(bits)
            dump = _raw(dtype, tensor.shape, elements)
        else:
            dump = _dump_from_ndarray(tensor.numpy(), is_ours)
    format = torch_format(tensor.shape)
    return dump if format is None else dump.but(fields={"format": format})


def torch_format(shape: Sequence[int]) -> str | None:
    """The meaning of the axes of a tensor of this shape. `None` if channels first makes no picture."""
    if len(shape) == 2:
        return "HW"
    if len(shape) in (3, 4) and 1 <= shape[-3] <= 4:
        return "CHW" if len(shape) == 3 else "NCHW"
    return None


def _dump_from_cuda(tensor: Any, dtype: str, is_donated: bool) -> Dump | None:
    """A tensor whose elements are still to come. `None` if they must be waited for now."""
    if dtype in _TORCH_TYPES:
        dump = npy(_TORCH_TYPES[dtype], tensor.shape, b"")
    elif dtype in RAW_TYPES:
        dump = _raw(dtype, tensor.shape, b"")
    else:
        return None
    try:
        return dump.but(parts=dump.parts[:-1], pending=Pending(tensor, is_donated))
    except RuntimeError:
        # For example, no pinned memory is left.
        return None


def resolved(tensor: Any) -> Any:
    """`tensor` with its elements as they count: a view may be marked as conjugated or negated."""
    for name in ("resolve_conj", "resolve_neg"):
        # Releases before torch 1.10 have neither, and no such views.
        if hasattr(tensor, name):
            tensor = getattr(tensor, name)()
    return tensor


def _dump_from_pillow(image: Any) -> Dump:
    """A Pillow image: its pixels, or a PNG file for modes whose bytes alone lose something."""
    if image.mode in _PIXEL_MODES:
        n_channels = _PIXEL_MODES[image.mode]
        shape = (image.height, image.width, n_channels)
        fields = {"format": "HWC", "range": [0, 255]}
        return npy("|u1", shape, image.tobytes()).but(fields=fields)
    if image.mode == "F":
        return npy(_NUMBER_MODES["F"], (image.height, image.width), image.tobytes())
    if image.mode == "I":
        # PNG holds 16 bits, and Pillow 13 no longer clips to them when it saves.
        image = image.convert("I;16")
    if image.mode in ("1", "P") or image.mode.startswith("I;16"):
        file = io.BytesIO()
        # The options of wandb, but the fastest level, because the training waits. The file is a little
        # larger.
        image.save(file, "PNG", transparency=None, compress_level=1)
        return _dump_from_file(file.getvalue())
    with_alpha = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}
    return _dump_from_pillow(image.convert(with_alpha.get(image.mode, "RGB")))


def _dump_from_lists(rows: Sequence[Any]) -> Dump:
    """Nested lists of numbers, all of one length at each depth.

    The element type is bool if all are bool, else int64 if all are whole numbers, else float64. Raises
    `ValueError` if the lengths differ, `TypeError` if an element is not a number.
    """
    shape, items = [len(rows)], list(rows)
    while items and isinstance(items[0], (list, tuple)):
        lengths = {len(item) if isinstance(item, (list, tuple)) else -1 for item in items}
        if len(lengths) > 1:
            raise ValueError(f"got lists of different lengths at depth {len(shape)}, want a full array")
        shape.append(lengths.pop())
        items = [number for item in items for number in item]
    if all(isinstance(number, bool) for number in items):
        return npy("|b1", shape, bytes(items))
    is_whole = all(isinstance(number, numbers.Integral) for number in items)
    try:
        elements = array.array("q" if is_whole else "d", items).tobytes()
    except (TypeError, ValueError) as error:
        raise TypeError(f"{error}; want nested lists of numbers") from None
    return npy(_NATIVE_ORDER + ("i8" if is_whole else "f8"), shape, elements)


def _dump_from_buffer(view: memoryview) -> Dump:
    """An object with a buffer that is no NumPy array. A flat row of bytes is an encoded picture."""
    if view.ndim == 1 and view.format in ("B", "b", "c"):
        return _dump_from_file(view.tobytes())
    order = {"<": "<", ">": ">", "!": ">"}.get(view.format[0], _NATIVE_ORDER)
    kind = _BUFFER_KINDS.get(view.format.lstrip("@=<>!"))
    if kind is None or view.shape is None:
        raise TypeError(f"got a buffer of format {view.format!r}, want numbers")
    return npy(f"{order if view.itemsize > 1 else '|'}{kind}{view.itemsize}", view.shape, view.tobytes())


def _ndarray(value: Any) -> Any:
    """`value` as a NumPy array, if it can convert itself (TensorFlow, JAX, CuPy, …), else `None`."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if callable(getattr(value, "numpy", None)):
        value = value.numpy()
    if hasattr(value, "__cuda_array_interface__") and callable(getattr(value, "get", None)):
        value = value.get()
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return numpy.asarray(value)
    return numpy.from_dlpack(value) if hasattr(value, "__dlpack__") else None


def _figure(value: Any) -> Any:
    """The matplotlib figure that is `value` or contains it (axes may lie in a subfigure), else `None`."""
    for _ in range(3):
        if hasattr(value, "savefig"):
            return value
        value = getattr(value, "figure", None)
    return None


def dump_from(data: Any, is_donated: bool = False) -> Dump:
    """Copies `data`, which may be anything that `Image` accepts. `is_donated` says that nobody changes it any
    more: then an array in C order is not copied.

    Raises `TypeError` for anything else, `OSError` if a file can't be read, `ValueError` if it holds
    no picture, and the errors of the library that `data` came from.
    """
    # The most common type comes first.
    if type(data) is getattr(sys.modules.get("numpy"), "ndarray", None):
        return _dump_from_ndarray(data, is_donated)
    if isinstance(data, (str, os.PathLike)):
        return dump_from_path(os.fsdecode(data))
    if is_a(data, "torch", "Tensor"):
        return _dump_from_torch(data, is_donated)
    if is_a(data, "PIL.Image", "Image"):
        return _dump_from_pillow(data)
    if isinstance(data, (list, tuple)):
        return _dump_from_lists(data)
    ndarray = _ndarray(data)
    if ndarray is not None:
        return _dump_from_ndarray(ndarray, is_donated)
    if callable(getattr(data, "read", None)):
        return _dump_from_file(bytes(data.read()))
    figure = _figure(data)
    if figure is not None:
        file = io.BytesIO()
        figure.savefig(file, format="png")
        return _dump_from_file(file.getvalue())
    try:
        view = memoryview(data)
    except TypeError:
        kind = f"{type(data).__module__}.{type(data).__qualname__}"
        raise TypeError(f"got a {kind}, want an array, an image, a figure or an image file") from None
    return _dump_from_buffer(view)


def dump_from_mask(mask: Any, is_donated: bool = False) -> Dump:
    """The class ids of a mask: an array, or a Pillow image, whose palette indices are the ids.

    Black and white are the ids 0 and 1. Raises `TypeError` if it is a file.
    """
    is_pillow = is_a(mask, "PIL.Image", "Image")
    if is_pillow and mask.mode == "1":
        mask = mask.convert("L").point([0] + [1] * 255)
    if is_pillow and mask.mode == "PA":
        mask = mask.getchannel("P")
    if is_pillow and mask.mode in _NUMBER_MODES:
        return npy(_NUMBER_MODES[mask.mode], (mask.height, mask.width), mask.tobytes())
    dump = dump_from(mask, is_donated)
    if dump.shape is None:
        raise TypeError('got a file as "mask_data", want an array of class ids; a ready mask goes to "path"')
    return dump
