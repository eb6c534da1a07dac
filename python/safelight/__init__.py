"""Writes what a training sees and makes, as it is, for Safelight to turn into pictures.

    run = safelight.Run("runs/7", project="digits")
    run.log({"loss": loss, "val/pred": safelight.Image(prediction, caption="epoch 3")})

The job pays for one raw write. The daemon, another process, makes of it the picture that
`wandb.Image` would have made. Nothing here imports NumPy, torch, Pillow or matplotlib: what is
passed in has imported them.

What is written is described in the README of Safelight, "What a job writes".
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import functools
import io
import json
import logging
import numbers
import operator
import os
import re
import struct
import sys
import threading
import time
import weakref
from types import TracebackType
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

__all__ = ["Image", "Run"]
__version__ = "0.1.0"

_LOGGER = logging.getLogger("safelight")

# ---------------------------------------------------------------------------------------------
# Files.


def _write_all(fd: int, parts: Sequence[bytes]) -> None:
    """Writes all of them, one after another: one call may take less, and takes at most 2 GiB."""
    rest = [memoryview(part) for part in parts]
    while rest:
        n = os.writev(fd, rest)
        while rest and n >= len(rest[0]):
            n -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][n:]


def _write_whole(path: str, parts: Sequence[bytes]) -> None:
    """Writes a file whose name appears when its bytes are all there, never before."""
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.{os.urandom(4).hex()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            _write_all(fd, parts)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def _open_to_append(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


# How many unnamed files a process has open: its other files need descriptors, too.
_UNNAMED_MAX = 32

# Smaller ones are copied in memory as fast.
_UNNAMED_BYTES_MIN = 1 << 20

_unnamed: set[int] = set()


class _Unnamed:
    """A file without a name, whole, in a folder where it is to have one.

    It is gone with its last reference, and with the process, however that ends, unless it got its name.
    """

    def __init__(self, folder: str, parts: Sequence[bytes]) -> None:
        # A file descriptor.
        self._fd = -1
        fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            _write_all(fd, parts)
            # From here on nobody can take it for being written still.
            self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(fd)
        _unnamed.add(self._fd)
        self._identity = self._look()
        self._is_named = False

    def __del__(self, close: Any = os.close) -> None:
        if self._fd >= 0:
            _unnamed.discard(self._fd)
            # A fork may have closed all that it found open.
            with contextlib.suppress(OSError):
                close(self._fd)

    def _look(self) -> tuple[int, int, int]:
        found = os.fstat(self._fd)
        return found.st_dev, found.st_ino, found.st_size

    def take_name(self, path: str) -> bool:
        """Gives the file its name. Returns `False` if it has one, or can't have it."""
        if self._is_named:
            return False
        try:
            if self._look() != self._identity:
                return False
            # Any folder: with one, the link that the descriptor is in /proc is followed.
            os.link(f"/proc/self/fd/{self._fd}", path, src_dir_fd=self._fd)
        except OSError:
            return False
        self._is_named = True
        return True

    def content(self) -> bytes:
        """What is in the file. Raises `OSError` if somebody else closed it."""
        if self._look() != self._identity:
            raise OSError(errno.EBADF, "the copy of the image was closed")
        with open(os.dup(self._fd), "rb", buffering=0) as file:
            file.seek(0)
            return file.readall()


# ---------------------------------------------------------------------------------------------
# Dumps: the files that log lines name.


class _Dump(NamedTuple):
    """A file to be written, whole in memory, or written already but for its name."""

    extension: str
    parts: Sequence[bytes]
    # What a log line says of the file, beside its path.
    description: Mapping[str, Any] = {}
    # What a log line says of the picture, unless the caller does.
    fields: Mapping[str, Any] = {}
    # Instead of the parts.
    file: _Unnamed | None = None

    def content(self) -> Sequence[bytes]:
        return self.parts if self.file is None else [self.file.content()]

    def __reduce__(self) -> Any:
        # Another process has no such file open.
        return _Dump, (
            self.extension,
            [bytes(part) for part in self.content()],
            self.description,
            self.fields,
        )

    @property
    def is_array(self) -> bool:
        return self.extension in (".npy", ".bin")


_NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"

# Bytes of an element, for each kind of element that an npy file can name and a picture be made of.
_ELEMENT_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}

# Kind and size of what `memoryview.format` calls a native type.
_BUFFER_KINDS = {"?": "b", **dict.fromkeys("bhilqn", "i"), **dict.fromkeys("BHILQN", "u")}
_BUFFER_KINDS.update({"e": "f", "f": "f", "d": "f", "Zf": "c", "Zd": "c"})

# How image files begin that the daemon keeps untouched.
_IMAGE_FILES = [
    (".png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    (".jpg", re.compile(rb"\xff\xd8\xff")),
    (".gif", re.compile(rb"GIF8[79]a")),
    (".bmp", re.compile(rb"BM")),
    (".webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    (".tiff", re.compile(rb"II[*+]\x00|MM\x00[*+]")),
]
_MAGIC_BYTES = 12

# Pillow's modes whose bytes are the pixels: channels.
_PIXEL_MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}

# Pillow's modes whose bytes are numbers, such as class ids: their type.
_NUMBER_MODES = {"L": "|u1", "P": "|u1", "I;16": "<u2", "I": _NATIVE_ORDER + "i4", "F": _NATIVE_ORDER + "f4"}


def _npy(descr: str, shape: Sequence[int], elements: bytes) -> _Dump:
    """An npy file of these elements, in C order."""
    return _Dump(".npy", (_npy_start(descr, tuple(map(int, shape))), elements))


# A training logs arrays of a few types and shapes, over and over.
@functools.lru_cache(maxsize=256)
def _npy_start(descr: str, shape: tuple[int, ...]) -> bytes:
    """What an npy file, version 1.0, has before its elements.

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


def _raw(dtype: str, shape: Sequence[int], elements: bytes) -> _Dump:
    """Elements of a type that NumPy's files cannot name, such as bfloat16."""
    description = {"dtype": dtype, "shape": list(map(int, shape)), "byte_order": sys.byteorder}
    return _Dump(".bin", (elements,), description)


def _is_raw_type(dtype: str) -> bool:
    return dtype == "bfloat16" or dtype.startswith("float8_")


def _dump_from_file(content: bytes) -> _Dump:
    """An encoded picture; its first bytes tell the kind.

    Raises `ValueError` if it is no png, jpg, gif, bmp, webp or tiff.
    """
    for extension, magic in _IMAGE_FILES:
        if magic.match(content):
            return _Dump(extension, (content,))
    got = "nothing (was it read before?)" if not content else repr(content[:_MAGIC_BYTES])
    raise ValueError(f"got {got}, want the bytes of a png, jpg, gif, bmp, webp or tiff file")


def _dump_from_path(path: str) -> _Dump:
    if re.match(r"(https?|s3|gs)://", path):
        raise ValueError(f"got an address, want an image file on this machine (download it first): {path}")
    with open(path, "rb") as file:
        start = file.read(_MAGIC_BYTES)
        try:
            # Not all of it, before the kind is known: it may be a checkpoint, or have no end.
            _dump_from_file(start)
        except ValueError as error:
            raise ValueError(f"{error}: {path}") from None
        return _dump_from_file(start + file.read())


def _dump_from_ndarray(values: Any, is_ours: bool = False) -> _Dump:
    """A `numpy.ndarray` of any shape, strides and byte order.

    Copies the elements, unless they are ours alone and in order. Raises `TypeError` if no picture can be
    made of their type.
    """
    dtype = values.dtype
    folder = _folder_of_unnamed() if values.nbytes >= _UNNAMED_BYTES_MIN and not is_ours else None
    is_in_place = is_ours or (folder is not None and values.flags.c_contiguous)
    elements = values.reshape(-1).view("u1").data if is_in_place else values.tobytes()
    # First, since NumPy makes up the name of a type each time.
    if dtype.itemsize in _ELEMENT_SIZES.get(dtype.kind, ()):
        dump = _npy(dtype.str, values.shape, elements)
    elif _is_raw_type(dtype.name):
        dump = _raw(dtype.name, values.shape, elements)
    else:
        raise TypeError(f"got elements of type {dtype}, want bool, or numbers of up to 64 bits a part")
    return dump if folder is None or not is_in_place else _copied(dump, folder)


def _copied(dump: _Dump, folder: str) -> _Dump:
    """A copy of a dump: straight into the file that it is to be, which saves one in memory."""
    try:
        return dump._replace(parts=(), file=_Unnamed(folder, dump.parts))
    except OSError:
        # No such files there, no room, no descriptors: `log` tries the usual way, and tells.
        return dump._replace(parts=[bytes(part) for part in dump.parts])


def _folder_of_unnamed() -> str | None:
    """Where a copy may wait for its name: in the run that was begun last."""
    run = _last_run()
    if run is None or run._is_finished or len(_unnamed) >= _UNNAMED_MAX:
        return None
    return os.path.join(run.dir, "tensors")


def _dump_from_torch(tensor: Any) -> _Dump:
    """A `torch.Tensor` on any device, of any strides, with or without gradient.

    Channels come first, as torch has them. Where they would be more than four nothing is said, so that
    the daemon finds the reading that makes sense.
    """
    is_moved = tensor.device.type != "cpu"
    tensor = tensor.detach().cpu()
    dtype = str(tensor.dtype).replace("torch.", "")
    if _is_raw_type(dtype):
        torch = sys.modules["torch"]
        # NumPy has no such type, but takes the same bits under another name.
        bits = tensor.view(torch.uint8 if tensor.element_size() == 1 else torch.int16)
        dump = _raw(dtype, tensor.shape, bits.numpy().tobytes())
    else:
        dump = _dump_from_ndarray(tensor.numpy(), is_ours=is_moved)
    if len(tensor.shape) == 2:
        return dump._replace(fields={"format": "HW"})
    if len(tensor.shape) in (3, 4) and 1 <= tensor.shape[-3] <= 4:
        return dump._replace(fields={"format": "CHW" if len(tensor.shape) == 3 else "NCHW"})
    return dump


def _dump_from_pillow(image: Any) -> _Dump:
    """A Pillow image as it is: its bytes, or a PNG file where they don't say all."""
    if image.mode in _PIXEL_MODES:
        n_channels = _PIXEL_MODES[image.mode]
        shape = (image.height, image.width, n_channels)
        fields = {"format": "HWC", "range": [0, 255]}
        return _npy("|u1", shape, image.tobytes())._replace(fields=fields)
    if image.mode == "F":
        return _npy(_NUMBER_MODES["F"], (image.height, image.width), image.tobytes())
    if image.mode == "I":
        # PNG holds 16 bits, and Pillow 13 no longer cuts to them by itself.
        image = image.convert("I;16")
    if image.mode in ("1", "P") or image.mode.startswith("I;16"):
        file = io.BytesIO()
        # As wandb saves it, but at the fastest level, a little larger: the training waits for it.
        image.save(file, "PNG", transparency=None, compress_level=1)
        return _dump_from_file(file.getvalue())
    with_alpha = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}
    return _dump_from_pillow(image.convert(with_alpha.get(image.mode, "RGB")))


def _dump_from_lists(rows: Sequence[Any]) -> _Dump:
    """Nested lists of numbers, all of one length at each depth.

    All bool makes bool, all whole numbers int64, anything else float64. Raises `ValueError` if the
    lengths differ, `TypeError` if something in them is no number.
    """
    shape, items = [len(rows)], list(rows)
    while items and isinstance(items[0], (list, tuple)):
        lengths = {len(item) if isinstance(item, (list, tuple)) else -1 for item in items}
        if len(lengths) > 1:
            raise ValueError(f"got lists of different lengths at depth {len(shape)}, want a full array")
        shape.append(lengths.pop())
        items = [number for item in items for number in item]
    if all(isinstance(number, bool) for number in items):
        return _npy("|b1", shape, bytes(items))
    is_whole = all(isinstance(number, numbers.Integral) for number in items)
    try:
        elements = array.array("q" if is_whole else "d", items).tobytes()
    except (TypeError, ValueError) as error:
        raise TypeError(f"{error}; want nested lists of numbers") from None
    return _npy(_NATIVE_ORDER + ("i8" if is_whole else "f8"), shape, elements)


def _dump_from_buffer(view: memoryview) -> _Dump:
    """What has a buffer and is no NumPy array: an encoded picture if it is a row of bytes."""
    if view.ndim == 1 and view.format in ("B", "b", "c"):
        return _dump_from_file(view.tobytes())
    order = {"<": "<", ">": ">", "!": ">"}.get(view.format[0], _NATIVE_ORDER)
    kind = _BUFFER_KINDS.get(view.format.lstrip("@=<>!"))
    if kind is None or view.shape is None:
        raise TypeError(f"got a buffer of format {view.format!r}, want numbers")
    return _npy(f"{order if view.itemsize > 1 else '|'}{kind}{view.itemsize}", view.shape, view.tobytes())


def _is_a(value: Any, module: str, name: str) -> bool:
    """Whether `value` is of a class of another library, which then is loaded."""
    wanted = getattr(sys.modules.get(module), name, None)
    return isinstance(wanted, type) and isinstance(value, wanted)


def _ndarray(value: Any) -> Any:
    """A NumPy array of what can be one by itself (TensorFlow, JAX, CuPy, …), else `None`."""
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
    """The matplotlib figure that `value` is or lies in (axes in a subfigure of it), else `None`."""
    for _ in range(3):
        if hasattr(value, "savefig"):
            return value
        value = getattr(value, "figure", None)
    return None


def _dump_from(data: Any) -> _Dump:
    """Copies whatever a picture can be made of.

    Raises `TypeError` for anything else, `OSError` if a file can't be read, `ValueError` if it holds
    no picture, and whatever the library raises that `data` came from.
    """
    # What most are, before all that it might be.
    if type(data) is getattr(sys.modules.get("numpy"), "ndarray", None):
        return _dump_from_ndarray(data)
    if isinstance(data, (str, os.PathLike)):
        return _dump_from_path(os.fsdecode(data))
    if _is_a(data, "torch", "Tensor"):
        return _dump_from_torch(data)
    if _is_a(data, "PIL.Image", "Image"):
        return _dump_from_pillow(data)
    if isinstance(data, (list, tuple)):
        return _dump_from_lists(data)
    ndarray = _ndarray(data)
    if ndarray is not None:
        return _dump_from_ndarray(ndarray)
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


def _dump_from_mask(mask: Any) -> _Dump:
    """The class ids of a mask: an array, or a Pillow image, of whose palette the indices count.

    Raises `TypeError` if it is a file.
    """
    if _is_a(mask, "PIL.Image", "Image") and mask.mode in _NUMBER_MODES:
        return _npy(_NUMBER_MODES[mask.mode], (mask.height, mask.width), mask.tobytes())
    dump = _dump_from(mask)
    if not dump.is_array:
        raise TypeError('got a file as "mask_data", want an array of class ids; a ready mask goes to "path"')
    return dump


# ---------------------------------------------------------------------------------------------
# Images.


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: numbers and arrays of any library as Python's own, keys as text,
    what has no better form as text."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if callable(getattr(value, "tolist", None)):
        return _plain(value.tolist())
    if callable(getattr(value, "numpy", None)):
        return _plain(value.numpy())
    return str(value)


def _mask_sets(masks: Any) -> Any:
    """`masks` as a log line has them, but with dumps where paths will be. A list is for a batch.

    Raises `TypeError` if something is no dict, or is one without `mask_data` and `path`.
    """
    if isinstance(masks, (list, tuple)):
        return [sets and _mask_sets(sets) for sets in masks]
    if not isinstance(masks, Mapping):
        raise TypeError(f"got masks of type {type(masks).__name__}, want a dict of masks by name")
    return {str(name): _mask(mask) for name, mask in masks.items()}


def _mask(mask: Any) -> dict[str, Any]:
    if not isinstance(mask, Mapping) or not ("mask_data" in mask or "path" in mask):
        raise TypeError(
            f'got a {type(mask).__name__} as a mask, want {{"mask_data": array}} or {{"path": file}}'
        )
    fields = {str(name): _plain(value) for name, value in mask.items() if name not in ("mask_data", "path")}
    if "path" in mask:
        fields["path"] = _dump_from_path(os.fsdecode(mask["path"]))
    else:
        fields["mask_data"] = _dump_from_mask(mask["mask_data"])
    return fields


class Image:
    """A picture, or a batch of them, to be logged.

    Its first eight parameters are those of `wandb.Image` 0.31, in their order. An `Image` copies what
    it is given, so that changing or closing that afterwards changes nothing. It never raises: what is
    wrong with it is told where it is logged, as `Run` has it.

    `data_or_path` is one of

    - an array: NumPy, TensorFlow, JAX, CuPy or nested lists, of any shape, strides and number type;
      axes are (H, W), (H, W, C) or (C, H, W), or a batch of these, as they make sense or as `format`
      says; C is 1 to 4;
    - a torch tensor, on any device, with or without gradient: (H, W), (C, H, W) or (N, C, H, W),
      other axes as they make sense;
    - a Pillow image, which is saved as it is, whatever its values;
    - an image file: its path, its bytes, or a file to `read()`, kept byte for byte;
    - a matplotlib figure, axes, or `pyplot` itself;
    - another `Image`: a copy, but for what else is given.

    What each parameter means is documented with the daemon; in short:

    - `mode`: `"L"`, `"LA"`, `"RGB"`, `"RGBA"`, `"1"` or `"I;16"`; of arrays and Pillow images.
    - `caption`, `grouping`: kept with the picture. For a batch, a list with one for each.
    - `classes`: `[{"id": 1, "name": "car"}]`, or a `wandb.Classes`.
    - `boxes`: `{"pred": {"box_data": [{"position": …, "class_id": 1}], "class_labels": {1: "car"}}}`.
      Numbers of NumPy and torch are fine. For a batch, a list.
    - `masks`: `{"gt": {"mask_data": array, "class_labels": {0: "road"}}}`, with class ids in (H, W); or
      `{"gt": {"path": file}}`, a ready mask. For a batch, a list.
    - `file_type`: `"png"`, `"jpg"`, `"jpeg"`, `"bmp"` or `"webp"`; `quality`, 1 to 100, of jpg. Files
      and figures stay what they are.
    - `compression`: `"fast"` or `"small"`, of png; `palette`: `True` for indexed colours where there are
      at most 256.
    - `profile`: whose rule makes bytes of values: `"auto"`, `"wandb-0.10"`, `"wandb-0.20"` or
      `"wandb-0.29"`.
    - `normalize`: the option of `wandb.Image` 0.20 to 0.28, as another way to say `profile`: `True` is
      `"wandb-0.20"` (values in [0, 1] or [−1, 1] are scaled), `False` is `"wandb-0.29"` (values are
      bytes already; the same arithmetic, bit for bit). `profile` wins.
    - `range`: `(low, high)`, the values that become 0 and 255, whatever the profile.
    - `format`: which axis is which: `"HW"`, `"HWC"`, `"CHW"`, `"NHW"`, `"NHWC"` or `"NCHW"`.
    - `colormap`, `nan_color`: of one channel: `"viridis"`, …; `"#rrggbb"`.
    - `alpha`, `background`: `"keep"`, `"drop"` or `"composite"`; `"#rrggbb"`.
    - `grid`: `True` or `{"nrow": 8, "padding": 2}` makes one contact sheet of a batch.
    - `downscale`: the longest side, in pixels.
    """

    _dump: _Dump
    _fields: Mapping[str, Any]
    # As `_mask_sets` makes them.
    _masks: Any = None
    # Why there is no picture; then there is nothing else.
    _error: Exception | None = None

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: Any = None,
        grouping: Any = None,
        classes: Any = None,
        boxes: Any = None,
        masks: Any = None,
        file_type: str | None = None,
        *,
        normalize: bool | None = None,
        format: str | None = None,
        profile: str | None = None,
        range: Sequence[float] | None = None,
        colormap: str | None = None,
        nan_color: str | None = None,
        quality: int | None = None,
        compression: str | None = None,
        palette: bool | None = None,
        alpha: str | None = None,
        background: str | None = None,
        grid: bool | Mapping[str, int] | None = None,
        downscale: int | None = None,
    ) -> None:
        try:
            if profile is None and normalize is not None:
                profile = "wandb-0.20" if normalize else "wandb-0.29"
            given = {
                # To wandb, too, empty text is no mode and no type.
                "mode": mode or None,
                "file_type": file_type or None,
                "caption": caption,
                "grouping": grouping,
                "classes": getattr(classes, "_class_set", classes),
                "boxes": boxes or None,
                "format": format,
                "profile": profile,
                "range": range,
                "colormap": colormap,
                "nan_color": nan_color,
                "quality": quality,
                "compression": compression,
                "palette": palette,
                "alpha": alpha,
                "background": background,
                "grid": grid,
                "downscale": downscale,
            }
            fields = {name: _plain(value) for name, value in given.items() if value is not None}
            self._take(data_or_path, fields)
            if masks:
                self._masks = _mask_sets(masks)
        except Exception as error:
            self._error = error

    def _take(self, data: Any, given: dict[str, Any]) -> None:
        """Sets the dump and the fields of its line: what is `given`, over what `data` says itself."""
        if isinstance(data, Image):
            if data._error is not None:
                raise data._error
            self._dump, self._masks, own = data._dump, data._masks, data._fields
        else:
            if "mode" in given and _is_a(data, "PIL.Image", "Image"):
                data = data.convert(given.pop("mode"))
            self._dump = _dump_from(data)
            own = self._dump.fields
        if not self._dump.is_array:
            # A file is kept as it is; wandb, too, passes over these.
            given = {name: value for name, value in given.items() if name not in ("mode", "file_type")}
        self._fields = {**own, **given}


# ---------------------------------------------------------------------------------------------
# Runs.

# How many live writers of one rank and host are told apart by number. More get a random name.
_LOGS_MAX = 64

_LINE_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

# How many failures of different kinds are told.
_TOLD_MAX = 100


def _rank() -> int:
    """The rank that the launcher gave this process, else 0."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        value = os.environ.get(name, "")
        if value.isdecimal():
            return int(value)
    return 0


@functools.lru_cache(maxsize=256)
def _safe(name: str) -> str:
    """A part of a file name: at most 100 of `[A-Za-z0-9_.-]`, not hidden, never empty."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:100] or "x"


def _images(data: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Image]]:
    """The images in a dict, each with its key, in order. What is no image is passed over."""
    for name, value in data.items():
        key = f"{prefix}{name}"
        if isinstance(value, Image):
            yield key, value
        elif isinstance(value, Mapping):
            yield from _images(value, f"{key}/")
        elif isinstance(value, (list, tuple)):
            for item in value:
                if isinstance(item, Image):
                    yield key, item


def _no_run() -> Run | None:
    return None


# The run that was begun last, if it is still there.
_last_run: Callable[[], Run | None] = _no_run


def _begin_in_child(run: Run | None) -> None:
    """Gives a run that a fork copied a log of its own. The parent keeps its log, and the lock on it."""
    if run is not None:
        inherited, run._media_log = run._media_log, None
        run._begin()
        if inherited is not None:
            run._close_media_log()


class Run:
    """A run directory to log images into. Any number of processes and threads may share one.

    - `dir` is made if it isn't there.
    - `rank` names the log: what the launcher says (`RANK`, `LOCAL_RANK`, `SLURM_PROCID`), else 0.
    - `strict`: what goes wrong is raised. Otherwise nothing is raised into the training but what stops
      it anyway, such as `KeyboardInterrupt`: each kind of failure is told once, as a warning of the
      logger `safelight`.
    - `id`, `project`, `name`, `group`, `job_type`, `tags`, `config`, `entity` say what the run is. They
      go to `safelight.json`, over what is there already, which stays as it is if it says the same.

    A forked process logs on with the `Run` that it finds. As a context manager, a run finishes where
    the block ends without an exception.

    Raises `TypeError` or `ValueError` for a `dir` or `rank` that can't be one, strict or not.
    """

    def __init__(
        self,
        dir: str | os.PathLike[str],
        *,
        rank: int | None = None,
        strict: bool = False,
        id: str | None = None,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] | None = None,
        config: Any = None,
        entity: str | None = None,
    ) -> None:
        # The training may change its directory later.
        self.dir = os.path.abspath(os.fspath(dir))
        self.rank = _rank() if rank is None else int(rank)
        self.strict = strict
        self._step = 0
        self._is_finished = False
        self._told: set[tuple[type, str]] = set()
        # A file descriptor.
        self._media_log: int | None = None
        self._begin()
        run = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _begin_in_child(run()))
        try:
            os.makedirs(os.path.join(self.dir, "tensors"), exist_ok=True)
            identity = {
                "id": id,
                "project": project,
                "entity": entity,
                "name": name,
                "group": group,
                "job_type": job_type,
                "tags": [tags] if isinstance(tags, str) else tags,
                # What argparse gives is no dict.
                "config": config if config is None or isinstance(config, Mapping) else vars(config),
            }
            self._write_identity({key: _plain(value) for key, value in identity.items() if value is not None})
        except Exception as error:
            self._tell("the run", error)
        global _last_run
        _last_run = run

    def _begin(self) -> None:
        """Makes what each process has for itself: its names, and a lock that only its threads hold."""
        # A signal's handler may log while its own thread does.
        self._lock = threading.RLock()
        self._token = os.urandom(6).hex()
        self._n_dumps = 0
        self._is_torn = False

    def _write_identity(self, identity: dict[str, Any]) -> None:
        if not identity:
            return
        path = os.path.join(self.dir, "safelight.json")
        # NaN and Infinity, which JSON doesn't have, become text.
        identity = json.loads(json.dumps(identity), parse_constant=str)
        try:
            with open(path, encoding="utf-8") as file:
                known = json.load(file)
        except (FileNotFoundError, ValueError):
            known = {}
        merged = {**known, **identity}
        if merged != known:
            text = json.dumps(merged, indent=2, ensure_ascii=False) + "\n"
            _write_whole(path, [text.encode("utf-8", "replace")])

    def log(self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> bool:
        """Logs the images in `data`: values that are an `Image`, or a list of them, in order.

        Dicts in it are walked, their keys joined by `/`. Everything else is passed over, so that the
        same dict may go to another tracker.

        `step` counts as in wandb: from 0, on by one with each call that neither names a step nor says
        `commit=False`, or that says `commit=True`; a call that names a step takes the count there, never
        back.

        Returns whether every image was written. If the run is strict, raises the first failure instead:
        `TypeError` or `ValueError` for an argument that can't be, `OSError` if the disk takes no more.
        """
        is_written = True
        try:
            if not isinstance(data, Mapping):
                raise TypeError(f"got a {type(data).__name__}, want a dict from keys to images")
            step = self._count(step, commit)
            for key, image in _images(data):
                is_written &= self._log_image(key, step, image)
        except Exception as error:
            self._tell("log", error)
            return False
        return is_written

    def finish(self) -> None:
        """Says that the run is over, and closes the log. A run that ends without it is fine, too."""
        with self._lock:
            if self._is_finished:
                return
            try:
                self._append({"finish": True})
            except Exception as error:
                self._tell("finish", error)
            finally:
                self._close()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A run that failed may be taken up again: it isn't over.
        if kind is None:
            self.finish()
        else:
            self._close()

    def _close(self) -> None:
        with self._lock:
            self._is_finished = True
            if self._media_log is not None:
                self._media_log = None
                self._close_media_log()

    def _count(self, step: int | None, commit: bool | None) -> int:
        """The step of this call. Source: wandb 0.31.0 `sdk/wandb_run.py`, `_log`."""
        given = None if step is None else operator.index(step)
        if given is not None and not 0 <= given < 1 << 64:
            raise ValueError(f"got step {given}, want a whole number from 0")
        with self._lock:
            step = self._step if given is None else given
            self._step = max(self._step, step)
            if commit or (commit is None and given is None):
                self._step += 1
        return step

    def _log_image(self, key: str, step: int, image: Image) -> bool:
        """Writes the image's dumps, then its line. Dumps that no line will name are removed."""
        saved: list[str] = []
        try:
            if image._error is not None:
                raise image._error
            if not 0 < len(key.encode("utf-8", "replace")) <= 1024 or "\0" in key:
                raise ValueError(f"got key {key[:64]!r}, want 1 to 1024 bytes without NUL")
            stem = f"tensors/{_safe(key)}-{step}"
            line = {"key": key, "step": step, "data": self._save(stem, image._dump, saved), **image._fields}
            if image._masks is not None:
                line["masks"] = self._save_masks(f"{stem}-mask", image._masks, saved)
            self._append({**line, "time": time.time()})
            return True
        except Exception as error:
            for path in saved:
                _remove(os.path.join(self.dir, path))
            self._tell(key, error)
            return False

    def _save_masks(self, stem: str, masks: Any, saved: list[str]) -> Any:
        """`masks` with dumps written, and references to them in their place."""
        if isinstance(masks, list):
            return [self._save_masks(stem, item, saved) for item in masks]
        if isinstance(masks, dict):
            return {name: self._save_masks(stem, item, saved) for name, item in masks.items()}
        return self._save(stem, masks, saved) if isinstance(masks, _Dump) else masks

    def _save(self, stem: str, dump: _Dump, saved: list[str]) -> Any:
        """Writes a dump under a name that nobody else takes. Returns how a line refers to it."""
        with self._lock:
            self._n_dumps += 1
            path = f"{stem}-{self._token}-{self._n_dumps}{dump.extension}"
        whole = os.path.join(self.dir, path)
        if dump.file is None or not dump.file.take_name(whole):
            _write_whole(whole, dump.content())
        saved.append(path)
        return {"path": path, **dump.description} if dump.description else path

    def _append(self, fields: Mapping[str, Any]) -> None:
        """Appends one line to this process's log."""
        line = _LINE_ENCODER.encode(fields).encode("utf-8", "replace") + b"\n"
        with self._lock:
            if self._is_finished:
                raise RuntimeError("the run is finished, want log before finish")
            if self._media_log is None:
                self._media_log = self._open_log()
                self._close_media_log = weakref.finalize(self, os.close, self._media_log)
                # Not before the training's own handlers, which may log or finish.
                self._close_media_log.atexit = False
            # A line that was cut off ends here, so that this one stands by itself.
            line = b"\n" + line if self._is_torn else line
            try:
                _write_all(self._media_log, [line])
            except BaseException:
                self._is_torn = True
                raise
            self._is_torn = False

    def _open_log(self) -> int:
        """Opens a media log that has no other writer as long as this process has it open.

        The next process, of this run or of its restart, takes the same log: there are as many as there
        ever were writers at the same time. The host is in the name since a lock may not reach further.
        """
        stem = os.path.join(self.dir, f"rank{self.rank}-{_safe(os.uname().nodename)}")
        for number in range(_LOGS_MAX):
            fd = _open_to_append(f"{stem}-{number}.media.jsonl")
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            except OSError:
                # The file system has no locks.
                os.close(fd)
                break
            # Its last writer may have been killed in the middle of a line.
            length = os.fstat(fd).st_size
            self._is_torn = length > 0 and os.pread(fd, 1, length - 1) != b"\n"
            return fd
        return _open_to_append(f"{stem}-{self._token}.media.jsonl")

    def _tell(self, what: str, error: Exception) -> None:
        """Raises `error` if the run is strict, else warns of its kind once."""
        if self.strict:
            raise error
        # Of a full disk, each message has another path in it.
        kind = (type(error), str(error.strerror if isinstance(error, OSError) else error))
        if kind not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(kind)
            _LOGGER.warning("%s is not logged: %s: %s (told once)", what, type(error).__name__, error)
