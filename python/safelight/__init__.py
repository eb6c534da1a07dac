"""Logs the tensors and images of a training run unchanged, for Safelight to turn into pictures.

    run = safelight.Run("runs/7", project="digits")
    run.log({"loss": loss, "val/pred": safelight.Image(prediction, caption="epoch 3")})

The training pays for one raw write. The daemon, a separate process, then makes the picture that
`wandb.Image` would have made. This module never imports NumPy, torch, Pillow or matplotlib: a caller
that passes in one of their objects has imported the library already.

Safelight's `docs/run-directory.md` describes the files.
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
import os
import re
import struct
import sys
import threading
import time
import weakref
from types import TracebackType
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from ._limits import LIMITS, RAW_TYPES, depth, over_annotation_limit, over_dump_limit
from ._session import SESSION_BYTES_MAX, header, rank_of, session_of_header, session_of_launcher
from ._session import session_of_process
from ._values import PassedOver, is_a as _is_a, plain as _plain, search, whole_step

__all__ = ["Image", "Run"]
__version__ = "0.1.0"

_LOGGER = logging.getLogger("safelight")

# ---------------------------------------------------------------------------------------------
# Files.


def _write_all(fd: int, parts: Sequence[bytes]) -> None:
    """Writes all parts in order. One system call may write less, and writes at most 2 GiB."""
    rest = [memoryview(part) for part in parts]
    while rest:
        n = os.writev(fd, rest)
        while rest and n >= len(rest[0]):
            n -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][n:]


def _write_whole(path: str, parts: Sequence[bytes]) -> None:
    """Writes a file that appears under its name only once it is complete."""
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


def _begun(fd: int, first: bytes) -> int:
    """Writes the first line of an empty log. If that fails, the log stays empty and is closed."""
    try:
        _write_all(fd, [first])
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
        os.close(fd)
        raise
    return fd


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


# Most unnamed files that a process keeps open. The training needs file descriptors, too.
_UNNAMED_MAX = 32

# Size from which a copy goes to an unnamed file. A copy in memory is as fast for smaller arrays.
_UNNAMED_BYTES_MIN = 1 << 20

_unnamed: set[int] = set()


class _Unnamed:
    """A complete file without a name, on the file system of the folder in which it may get one.

    A file that never got a name disappears with its last reference or with the process.
    """

    def __init__(self, folder: str, parts: Sequence[bytes]) -> None:
        # A file descriptor.
        self._fd = -1
        fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            _write_all(fd, parts)
            # Without a descriptor open for writing, the file does not look like one still being written.
            self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(fd)
        _unnamed.add(self._fd)
        self._identity = self._look()
        self._is_named = False

    def __del__(self, close: Any = os.close) -> None:
        if self._fd >= 0:
            _unnamed.discard(self._fd)
            # A forked process may have closed every descriptor that it inherited.
            with contextlib.suppress(OSError):
                close(self._fd)

    def _look(self) -> tuple[int, int, int]:
        found = os.fstat(self._fd)
        return found.st_dev, found.st_ino, found.st_size

    @property
    def n_bytes(self) -> int:
        return self._identity[2]

    def take_name(self, path: str) -> bool:
        """Gives the file its name. Returns `False` if it has a name already, or if linking fails."""
        if self._is_named:
            return False
        try:
            if self._look() != self._identity:
                return False
            # Python follows the link in /proc only if a folder is given. The path is absolute, so any
            # descriptor will do.
            os.link(f"/proc/self/fd/{self._fd}", path, src_dir_fd=self._fd)
        except OSError:
            return False
        self._is_named = True
        return True

    def content(self) -> bytes:
        """Returns the file's bytes. Raises `OSError` if other code closed the descriptor."""
        if self._look() != self._identity:
            raise OSError(errno.EBADF, "the copy of the image was closed")
        with open(os.dup(self._fd), "rb", buffering=0) as file:
            file.seek(0)
            return file.readall()


# ---------------------------------------------------------------------------------------------
# Dumps: the files that log lines name.


class _Dump(NamedTuple):
    """A file to write: complete in memory, or on disk and waiting for its name."""

    extension: str
    parts: Sequence[bytes]
    # Fields of the log line that describe the file, beside its path.
    description: Mapping[str, Any] = {}
    # Fields of the log line that describe the picture. Those of the caller win.
    fields: Mapping[str, Any] = {}
    # The file on disk. If it is set, `parts` is empty.
    file: _Unnamed | None = None
    # The lengths of an array's axes.
    shape: tuple[int, ...] | None = None

    def content(self) -> Sequence[bytes]:
        return self.parts if self.file is None else [self.file.content()]

    def __reduce__(self) -> Any:
        # Another process does not have the file open, so the bytes themselves are pickled.
        return _Dump, (
            self.extension,
            [bytes(part) for part in self.content()],
            self.description,
            self.fields,
            None,
            self.shape,
        )

    @property
    def n_bytes(self) -> int:
        if self.file is not None:
            return self.file.n_bytes
        return sum(memoryview(part).nbytes for part in self.parts)

    @property
    def is_array(self) -> bool:
        return self.extension in (".npy", ".bin")


_NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"

# Element sizes in bytes, for each kind of element that npy files have and pictures can be made of.
_ELEMENT_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}

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


def _npy(descr: str, shape: Sequence[int], elements: bytes) -> _Dump:
    """An npy file of these elements, in C order."""
    shape = tuple(map(int, shape))
    return _Dump(".npy", (_npy_start(descr, shape), elements), shape=shape)


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


def _raw(dtype: str, shape: Sequence[int], elements: bytes) -> _Dump:
    """A file of bare elements, for types that npy files cannot name, such as bfloat16."""
    shape = tuple(map(int, shape))
    description = {"dtype": dtype, "shape": list(shape), "byte_order": sys.byteorder}
    return _Dump(".bin", (elements,), description, shape=shape)


def _dump_from_file(content: bytes) -> _Dump:
    """An encoded picture. Its first bytes decide the file type.

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
            # Check the first bytes before reading on: the file may be a large checkpoint, or endless.
            _dump_from_file(start)
        except ValueError as error:
            raise ValueError(f"{error}: {path}") from None
        return _dump_from_file(start + file.read())


def _dump_from_ndarray(values: Any, is_ours: bool = False) -> _Dump:
    """A `numpy.ndarray` of any shape, strides and byte order.

    Copies the elements. `is_ours` says that nobody else holds the array; then one in C order is not
    copied. Raises `TypeError` if no picture can be made of the element type.
    """
    dtype = values.dtype
    folder = _folder_of_unnamed() if values.nbytes >= _UNNAMED_BYTES_MIN and not is_ours else None
    is_in_place = is_ours or (folder is not None and values.flags.c_contiguous)
    elements = values.reshape(-1).view("u1").data if is_in_place else values.tobytes()
    # This check comes first, because NumPy builds `dtype.name` anew each time.
    if dtype.itemsize in _ELEMENT_SIZES.get(dtype.kind, ()):
        dump = _npy(dtype.str, values.shape, elements)
    elif dtype.name in RAW_TYPES:
        dump = _raw(dtype.name, values.shape, elements)
    else:
        raise TypeError(f"got elements of type {dtype}, want bool, or numbers of up to 64 bits a part")
    return dump if folder is None or not is_in_place else _copied(dump, folder)


def _copied(dump: _Dump, folder: str) -> _Dump:
    """Copies a dump into an unnamed file in `folder`, or in memory if there can be none."""
    try:
        return dump._replace(parts=(), file=_Unnamed(folder, dump.parts))
    except OSError:
        # Unnamed files are not supported, the disk is full, or no descriptor is left. `log` writes the
        # copy in the usual way, and reports a failure.
        return dump._replace(parts=[bytes(part) for part in dump.parts])


def _folder_of_unnamed() -> str | None:
    """The folder for a new unnamed file, in the run that was begun last; `None` if there can be none."""
    run = _last_run()
    if run is None or run._is_finished or len(_unnamed) >= _UNNAMED_MAX:
        return None
    return os.path.join(run.dir, "tensors")


def _dump_from_torch(tensor: Any) -> _Dump:
    """A `torch.Tensor` on any device, of any strides, with or without gradient.

    Channels come first, as usual in torch. If that gave more than four channels, the log line names no
    format, and the daemon guesses it from the shape.
    """
    is_moved = tensor.device.type != "cpu"
    tensor = tensor.detach().cpu()
    dtype = str(tensor.dtype).replace("torch.", "")
    if dtype in RAW_TYPES:
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
    """A Pillow image: its pixels, or a PNG file for modes whose bytes alone lose something."""
    if image.mode in _PIXEL_MODES:
        n_channels = _PIXEL_MODES[image.mode]
        shape = (image.height, image.width, n_channels)
        fields = {"format": "HWC", "range": [0, 255]}
        return _npy("|u1", shape, image.tobytes())._replace(fields=fields)
    if image.mode == "F":
        return _npy(_NUMBER_MODES["F"], (image.height, image.width), image.tobytes())
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


def _dump_from_lists(rows: Sequence[Any]) -> _Dump:
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
        return _npy("|b1", shape, bytes(items))
    is_whole = all(isinstance(number, numbers.Integral) for number in items)
    try:
        elements = array.array("q" if is_whole else "d", items).tobytes()
    except (TypeError, ValueError) as error:
        raise TypeError(f"{error}; want nested lists of numbers") from None
    return _npy(_NATIVE_ORDER + ("i8" if is_whole else "f8"), shape, elements)


def _dump_from_buffer(view: memoryview) -> _Dump:
    """An object with a buffer that is no NumPy array. A flat row of bytes is an encoded picture."""
    if view.ndim == 1 and view.format in ("B", "b", "c"):
        return _dump_from_file(view.tobytes())
    order = {"<": "<", ">": ">", "!": ">"}.get(view.format[0], _NATIVE_ORDER)
    kind = _BUFFER_KINDS.get(view.format.lstrip("@=<>!"))
    if kind is None or view.shape is None:
        raise TypeError(f"got a buffer of format {view.format!r}, want numbers")
    return _npy(f"{order if view.itemsize > 1 else '|'}{kind}{view.itemsize}", view.shape, view.tobytes())


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


def _dump_from(data: Any) -> _Dump:
    """Copies `data`, which may be anything that `Image` accepts.

    Raises `TypeError` for anything else, `OSError` if a file can't be read, `ValueError` if it holds
    no picture, and the errors of the library that `data` came from.
    """
    # The most common type comes first.
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
    """The class ids of a mask: an array, or a Pillow image, whose palette indices are the ids.

    Black and white are the ids 0 and 1. Raises `TypeError` if it is a file.
    """
    is_pillow = _is_a(mask, "PIL.Image", "Image")
    if is_pillow and mask.mode == "1":
        mask = mask.convert("L").point([0] + [1] * 255)
    if is_pillow and mask.mode == "PA":
        mask = mask.getchannel("P")
    if is_pillow and mask.mode in _NUMBER_MODES:
        return _npy(_NUMBER_MODES[mask.mode], (mask.height, mask.width), mask.tobytes())
    dump = _dump_from(mask)
    if not dump.is_array:
        raise TypeError('got a file as "mask_data", want an array of class ids; a ready mask goes to "path"')
    return dump


# ---------------------------------------------------------------------------------------------
# Images.

# Fields of a line that may stand in a file, and those that are left out of a line that is still too long.
_ANNOTATIONS = ("boxes", "masks", "classes")
_TEXTS = ("caption", "grouping")


def _mask_sets(masks: Any, left_out: dict[str, Exception]) -> Any:
    """`masks` in the form of a log line, with a `_Dump` in place of each path. A list is for a batch.

    A mask that cannot be used is added to `left_out` instead, with the reason.
    """
    if isinstance(masks, (list, tuple)):
        return [sets and _mask_sets(sets, left_out) for sets in masks]
    if not isinstance(masks, Mapping):
        kind = type(masks).__name__
        left_out["masks"] = TypeError(f"got masks of type {kind}, want a dict of masks by name")
        return None
    sets = {}
    for name, mask in masks.items():
        try:
            sets[str(name)] = _mask(mask)
        except Exception as error:
            left_out[f"masks/{name}"] = error
    return sets


def _mask(mask: Any) -> dict[str, Any]:
    """Raises `TypeError` if a mask is no dict, or has neither `mask_data` nor `path`."""
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
    """A picture, or a batch of pictures, to log.

    The first eight parameters are those of `wandb.Image` 0.31, in the same order. An `Image` copies its
    data, so you may change or close the original afterwards. The constructor never raises an
    `Exception`: `Run.log` reports the error when the `Image` is logged.

    `data_or_path` is one of

    - an array: NumPy, TensorFlow, JAX, CuPy or nested lists, of any shape, strides and number type;
      axes are (H, W), (H, W, C) or (C, H, W), or a batch of these; `format` names the axes, otherwise
      they are guessed from the shape; C is 1 to 4;
    - a torch tensor, on any device, with or without gradient: (H, W), (C, H, W) or (N, C, H, W),
      otherwise the axes are guessed from the shape;
    - a Pillow image; its values are never scaled;
    - an image file: its path, its bytes, or an object with `read()`; stored byte for byte;
    - a matplotlib figure, axes, or `pyplot` itself;
    - another `Image`: a copy of it; the parameters given here replace its own.

    Safelight's `docs/run-directory.md` describes each parameter. In short:

    - `mode`: `"L"`, `"LA"`, `"RGB"`, `"RGBA"`, `"1"` or `"I;16"`; for arrays and Pillow images.
    - `caption`, `grouping`: stored with the picture. For a batch, a list with one for each.
    - `classes`: `[{"id": 1, "name": "car"}]`, or a `wandb.Classes`.
    - `boxes`: `{"pred": {"box_data": [{"position": …, "class_id": 1}], "class_labels": {1: "car"}}}`.
      Numbers of NumPy and torch are fine. For a batch, a list.
    - `masks`: `{"gt": {"mask_data": array, "class_labels": {0: "road"}}}`, with class ids in (H, W); or
      `{"gt": {"path": file}}`, a ready mask. For a batch, a list.
    - `file_type`: `"png"`, `"jpg"`, `"jpeg"`, `"bmp"` or `"webp"`; `quality`: 1 to 100, for jpg. Image
      files and figures keep their type.
    - `compression`: `"fast"` or `"small"`, for png; `palette`: `True` stores an image of at most 256
      colours with a palette.
    - `profile`: the rule that turns values into bytes: `"auto"`, `"wandb-0.10"`, `"wandb-0.20"` or
      `"wandb-0.29"`.
    - `normalize`: the option of `wandb.Image` 0.20 to 0.28, which selects a `profile`: `True` is
      `"wandb-0.20"` (values in [0, 1] or [−1, 1] are scaled), `False` is `"wandb-0.29"` (values are
      bytes already; the same arithmetic, bit for bit). If both are given, `profile` wins.
    - `range`: `(low, high)`, the values that become 0 and 255, with any profile.
    - `format`: the meaning of each axis: `"HW"`, `"HWC"`, `"CHW"`, `"NHW"`, `"NHWC"` or `"NCHW"`.
    - `colormap`, `nan_color`: `"viridis"`, … and `"#rrggbb"`; for images of one channel.
    - `alpha`: `"keep"`, `"drop"` or `"composite"`; `background`: `"#rrggbb"`.
    - `grid`: `True` or `{"nrow": 8, "padding": 2}` makes one contact sheet of a batch.
    - `downscale`: the longest side, in pixels.
    """

    _dump: _Dump
    _fields: Mapping[str, Any]
    # The result of `_mask_sets`.
    _masks: Any = None
    # Captions and annotations that cannot be logged, with the reason.
    _left_out: Mapping[str, Exception] = {}
    # The reason why there is no picture. If it is set, `_dump` may be missing.
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
                # As in wandb, an empty text counts as not given.
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
            fields: dict[str, Any] = {}
            left_out: dict[str, Exception] = {}
            for name, value in given.items():
                try:
                    if value is not None:
                        fields[name] = _plain(value)
                except Exception as error:
                    if name not in _TEXTS + _ANNOTATIONS:
                        raise
                    left_out[name] = error
            self._take(data_or_path, fields, replaced={*fields, *left_out, *(["masks"] if masks else [])})
            if masks:
                self._masks = _mask_sets(masks, left_out)
            self._left_out = {**self._left_out, **left_out}
        except Exception as error:
            self._error = error

    def _take(self, data: Any, given: dict[str, Any], replaced: set[str]) -> None:
        """Sets the dump and the fields of its line. Fields in `given` replace those of `data`. What
        another `Image` left out is still left out, unless it is `replaced`."""
        if isinstance(data, Image):
            if data._error is not None:
                raise data._error
            self._dump, self._masks, own = data._dump, data._masks, data._fields
            left_out = data._left_out.items()
            self._left_out = {name: error for name, error in left_out if name.partition("/")[0] not in replaced}
        else:
            if "mode" in given and _is_a(data, "PIL.Image", "Image"):
                data = data.convert(given.pop("mode"))
            self._dump = _dump_from(data)
            own = self._dump.fields
        if not self._dump.is_array:
            # An image file is stored unchanged. wandb ignores these two for files as well.
            given = {name: value for name, value in given.items() if name not in ("mode", "file_type")}
        self._fields = {**own, **given}


# ---------------------------------------------------------------------------------------------
# Runs.

# Most numbered logs of one rank on one host. A further writer gets a log with a random name.
_LOGS_MAX = 64

_LINE_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

# Length of a line, in bytes, above which its annotations go to files.
_LINE_BYTES_LONG = 1 << 16

# A log of another host that changed within this time, in seconds, has a writer.
_AT_WORK_S = 300

# Most kinds of failure that a run reports.
_REPORTED_MAX = 100


# Half of a surrogate pair, which UTF-8 does not have.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _utf_8(text: str) -> bytes:
    """The text in UTF-8, with U+FFFD in place of what UTF-8 does not have."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("\ufffd", text).encode("utf-8")


def _json(value: Any) -> bytes:
    return _utf_8(_LINE_ENCODER.encode(value))


@functools.lru_cache(maxsize=256)
def _safe(name: str) -> str:
    """A part of a file name: 1 to 100 characters of `[A-Za-z0-9_.-]`, the first no dot."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:100] or "x"


def _is_locked(fd: int) -> bool:
    """Whether another process writes this log. Takes no lock that outlasts the call."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _no_run() -> Run | None:
    return None


# Returns the run that was begun last, if it still exists.
_last_run: Callable[[], Run | None] = _no_run


def _begin_in_child(run: Run | None) -> None:
    """Gives a forked copy of a run its own log. The parent keeps its log and the lock on it."""
    if run is not None:
        inherited, run._media_log = run._media_log, None
        run._begin()
        if inherited is not None:
            run._close_media_log()


class Run:
    """A run directory to log images into. Any number of processes and threads may share one.

    - `dir` is created if it does not exist.
    - `rank` is part of the log's name and of its first line. Default: the launcher's (`RANK`,
      `OMPI_COMM_WORLD_RANK`, `PMIX_RANK`, `LOCAL_RANK`, `SLURM_PROCID`), else 0.
    - `session` names this attempt of the job. Images of a later attempt replace those of an earlier one
      at the same rank, key and step, so give the same name to all processes of an attempt. Default: what
      the launcher says (`SAFELIGHT_SESSION`, torchrun, srun, mpirun); else that of a process which is
      writing in `dir` as the same rank; else a name of its own.
    - `strict`: failures are raised. Otherwise no `Exception` reaches the training, and each kind of
      failure is reported once, as a warning of the logger `safelight`. `KeyboardInterrupt` and its like
      always pass.
    - `limits`: the daemon's `[limits]` where they differ from the defaults, such as
      `{"pixels_max": 1 << 30}`. What the daemon would refuse is reported by `log`.
    - `id`, `project`, `name`, `group`, `job_type`, `tags`, `config`, `entity` describe the run. They
      are merged into `safelight.json`, which is rewritten only if a value changes.

    A forked process may go on using the `Run` that it inherited. As a context manager, a run is finished
    when the block ends without an exception.

    Raises `TypeError` or `ValueError` for an invalid `dir`, `rank`, `session` or
    `limits`, strict or not.
    """

    def __init__(
        self,
        dir: str | os.PathLike[str],
        *,
        rank: int | None = None,
        session: str | None = None,
        strict: bool = False,
        limits: Mapping[str, int] | None = None,
        id: str | None = None,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] | None = None,
        config: Any = None,
        entity: str | None = None,
    ) -> None:
        # The training may change its working directory later.
        self.dir = os.path.abspath(os.fspath(dir))
        self.rank = rank_of(os.environ) if rank is None else int(rank)
        if not 0 <= self.rank < 1 << 32:
            raise ValueError(f"got rank {self.rank}, want a whole number from 0 to {(1 << 32) - 1}")
        if session is not None and not (
            isinstance(session, str) and 0 < len(_utf_8(session)) <= SESSION_BYTES_MAX
        ):
            raise ValueError(f"got session {session!r:.64}, want a text of 1 to {SESSION_BYTES_MAX} bytes")
        # `None` until the log is begun, if nothing says it before.
        self.session = session or session_of_launcher(os.environ)
        self.strict = strict
        unknown = sorted(set(limits or {}) - set(LIMITS))
        if unknown:
            raise ValueError(f"got the limits {unknown}, want some of {sorted(LIMITS)}")
        self._limits = {**LIMITS, **(limits or {})}
        self._step = 0
        self._is_finished = False
        self._reported: set[tuple[type, str]] = set()
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
                # argparse gives a namespace, not a dict.
                "config": config if config is None or isinstance(config, Mapping) else vars(config),
            }
            self._write_identity({key: _plain(value) for key, value in identity.items() if value is not None})
        except Exception as error:
            self._report("the run", error)
        global _last_run
        _last_run = run

    def _begin(self) -> None:
        """Sets the state that belongs to one process: the token in its file names, and its lock."""
        # Reentrant: a signal handler may log while its own thread is in `log`.
        self._lock = threading.RLock()
        self._token = os.urandom(6).hex()
        self._n_dumps = 0
        self._is_torn = False

    def _write_identity(self, identity: dict[str, Any]) -> None:
        if not identity:
            return
        path = os.path.join(self.dir, "safelight.json")
        # JSON has no NaN and no Infinity: they become text.
        identity = json.loads(json.dumps(identity), parse_constant=str)
        try:
            with open(path, encoding="utf-8") as file:
                known = json.load(file)
        except (FileNotFoundError, ValueError):
            known = {}
        merged = {**known, **identity}
        if merged == known:
            return

        def text() -> bytes:
            return _utf_8(json.dumps(merged, indent=2, ensure_ascii=False) + "\n")

        bytes_max, depth_max = self._limits["identity_bytes_max"], self._limits["depth_max"]
        for name in [name for name, value in merged.items() if depth(value) > depth_max]:
            del merged[name]
            self._report(f"{name} of the run", ValueError(f"nested deeper than {depth_max} levels"))
        while len(text()) > bytes_max:
            name = max(merged, key=lambda name: len(_json(merged[name])))
            n_bytes = len(_json(merged.pop(name)))
            problem = f"{n_bytes} bytes, the daemon reads at most {bytes_max} in safelight.json"
            self._report(f"{name} of the run", ValueError(problem))
        _write_whole(path, [text()])

    def log(self, data: Mapping[Any, Any], step: float | None = None, commit: bool | None = None) -> bool:
        """Logs the images in `data`, in order. A value may be an `Image`, or have images in it: a list, a
        tuple, a set, a generator, an array of objects, or another iterable.

        Nested dicts are searched, and their keys joined by `/`. Numbers and texts are ignored, so that the
        same dict may go to another tracker. Each other kind of value without an image is reported once.

        Steps count as in wandb. The count starts at 0. A call with `commit=True` adds one, and so does a
        call with neither `step` nor `commit`. A call with a larger `step` moves the count there; a smaller
        one leaves it. A step may be a whole float, or a number of another library.

        Returns whether every image was written, with all that was given with it. `False` also if `data`
        has a picture without its `Image`. A strict run raises the first failure instead: `TypeError` or
        `ValueError` for an invalid argument, `OSError` if writing fails.
        """
        is_written, picture = True, None
        try:
            if not isinstance(data, Mapping):
                raise TypeError(f"got a {type(data).__name__}, want a dict from keys to images")
            now = self._count(step, commit)
            for key, found in search(data, Image):
                if isinstance(found, Image):
                    is_written &= self._log_image(key, now, found)
                elif isinstance(found, PassedOver):
                    problem = TypeError(f"got a {found.kind}, want an Image of it")
                    self._warn(f"{key} is passed over", problem)
                    picture = picture or (problem if found.is_picture else None)
                else:
                    self._report(key, found)
                    is_written = False
            if picture is not None and self.strict:
                raise picture
        except Exception as error:
            self._report("log", error)
            return False
        return is_written and picture is None

    def finish(self) -> None:
        """Logs that the run is over, and closes the log. Optional: a run may end without it."""
        with self._lock:
            if self._is_finished:
                return
            try:
                self._append(_json({"finish": True}))
            except Exception as error:
                self._report("finish", error)
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
        # A run that failed may be resumed, so it is not marked as finished.
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

    def _count(self, step: float | None, commit: bool | None) -> int:
        """Returns the step of this call, and advances the count.

        Source: wandb 0.31.0 `sdk/wandb_run.py`, `_log`.
        """
        given = None if step is None else whole_step(step)
        with self._lock:
            now = self._step if given is None else given
            self._step = max(self._step, now)
            if commit or (commit is None and given is None):
                self._step += 1
        return now

    def _log_image(self, key: str, step: int, image: Image) -> bool:
        """Writes the image's dumps, then its line. If one write fails, removes the dumps."""
        saved: list[str] = []
        try:
            if image._error is not None:
                raise image._error
            if not 0 < len(_utf_8(key)) <= self._limits["key_bytes_max"] or "\0" in key:
                raise ValueError(f"got key {key[:64]!r}, want 1 to 1024 bytes without NUL")
            dump, fields = image._dump, dict(image._fields)
            over = over_dump_limit(dump.n_bytes, dump.shape, fields.get("format"), self._limits)
            if over is not None:
                raise ValueError(f"got {over}")
            stem = f"tensors/{_safe(key)}-{step}"
            line = {"key": key, "step": step, "data": self._save(stem, dump, saved), **fields}
            if image._masks:
                line["masks"] = self._save_masks(f"{stem}-mask", image._masks, saved)
            line["time"] = time.time()
            text, over_limits = self._fit(line, stem, saved)
            self._append(text)
        except Exception as error:
            for path in saved:
                _remove(os.path.join(self.dir, path))
            self._report(key, error)
            return False
        left_out = {**image._left_out, **over_limits}
        for name, problem in left_out.items():
            self._report(f"{name} of {key}", problem)
        return not left_out

    def _fit(self, line: dict[str, Any], stem: str, saved: list[str]) -> tuple[bytes, dict[str, Exception]]:
        """Moves large annotations of a line into files, and removes what the daemon would refuse. Returns
        the line's text and, by field, why something was removed."""
        limits = self._limits
        left_out: dict[str, Exception] = {}
        for name in _TEXTS:
            if name in line and depth(line[name]) > limits["depth_max"]:
                left_out[name] = ValueError(f"got nested deeper than {limits['depth_max']} levels")
                del line[name]
        annotations = [name for name in _ANNOTATIONS if name in line]
        for name in annotations:
            problem = over_annotation_limit(name, line[name], limits)
            if problem is not None:
                left_out[name] = ValueError(f"got {problem}")
                del line[name]
        text = b"" if annotations else _json(line)
        if annotations or len(text) > _LINE_BYTES_LONG:
            # Each field is encoded once: boxes of a batch take milliseconds.
            fields = {name: _json(value) for name, value in line.items()}
            self._shorten(fields, stem, saved, left_out)
            text = b"{%s}" % b",".join(b"%s:%s" % (_json(name), value) for name, value in fields.items())
        return text, left_out

    def _shorten(
        self, fields: dict[str, bytes], stem: str, saved: list[str], left_out: dict[str, Exception]
    ) -> None:
        """Makes a line shorter, whose fields are JSON already. The largest fields come first."""
        n_beside, beside_max = 0, self._limits["annotation_bytes_max"]
        line_max = self._limits["line_bytes_max"]
        n_bytes = sum(map(len, fields.values())) + sum(len(name) + 4 for name in fields) + 2
        for name in sorted(fields, key=lambda name: len(fields[name]), reverse=True):
            n = len(fields[name])
            if name in _ANNOTATIONS and n_bytes > _LINE_BYTES_LONG:
                if n_beside + n <= beside_max:
                    file = _Dump(f".{name}.json", [fields[name]])
                    fields[name] = _json({"path": self._save(stem, file, saved)})
                    n_beside += n
                    n_bytes += len(fields[name])
                else:
                    problem = f"got {n} bytes, the daemon reads at most {beside_max} beside a line"
                    left_out[name] = ValueError(problem)
                    del fields[name]
                n_bytes -= n
        for name in sorted(set(_TEXTS) & set(fields), key=lambda name: len(fields[name]), reverse=True):
            if n_bytes > line_max:
                n = len(fields.pop(name))
                left_out[name] = ValueError(f"got {n} bytes, a line of the log may have {line_max}")
                n_bytes -= n

    def _save_masks(self, stem: str, masks: Any, saved: list[str]) -> Any:
        """Writes the dumps in `masks`. Returns `masks` with references in place of the dumps."""
        if isinstance(masks, list):
            return [self._save_masks(stem, item, saved) for item in masks]
        if isinstance(masks, dict):
            return {name: self._save_masks(stem, item, saved) for name, item in masks.items()}
        return self._save(stem, masks, saved) if isinstance(masks, _Dump) else masks

    def _save(self, stem: str, dump: _Dump, saved: list[str]) -> Any:
        """Writes a dump under a unique name. Returns the reference for the log line."""
        with self._lock:
            self._n_dumps += 1
            path = f"{stem}-{self._token}-{self._n_dumps}{dump.extension}"
        whole = os.path.join(self.dir, path)
        if dump.file is None or not dump.file.take_name(whole):
            _write_whole(whole, dump.content())
        saved.append(path)
        return {"path": path, **dump.description} if dump.description else path

    def _append(self, line: bytes) -> None:
        """Appends one line to the log of this process."""
        with self._lock:
            if self._is_finished:
                raise RuntimeError("the run is finished, want log before finish")
            if self._media_log is None:
                opened = self._open_log()
                if self._media_log is not None:
                    # A signal handler has logged meanwhile.
                    os.close(opened)
            if self._media_log is None:
                self._media_log = opened
                self._close_media_log = weakref.finalize(self, os.close, self._media_log)
                # Closing it at exit could come before the training's own handlers, which may still log.
                self._close_media_log.atexit = False
            # End an incomplete line first, so that this one stands on a line of its own.
            line = (b"\n" if self._is_torn else b"") + line + b"\n"
            try:
                _write_all(self._media_log, [line])
            except BaseException:
                self._is_torn = True
                raise
            self._is_torn = False

    def _open_log(self) -> int:
        """Opens a media log, and locks it against other writers until it is closed.

        A later process of the session reuses a log that is free. A session thus has as many logs as it had
        writers at one time. The name contains the host, because a lock may not hold across hosts.
        """
        host = _safe(os.uname().nodename)
        stem = os.path.join(self.dir, f"rank{self.rank}-{host}")
        if self.session is None:
            self.session = self._session_at_work(host) or session_of_process()
        first = header(self.session, self.rank)
        for number in range(_LOGS_MAX):
            fd = _open_to_append(f"{stem}-{number}.media.jsonl")
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            except OSError:
                # The file system does not support locks.
                os.close(fd)
                break
            length = os.fstat(fd).st_size
            if length == 0:
                return _begun(fd, first)
            if os.pread(fd, len(first), 0) == first:
                # The last writer may have been killed in the middle of a line.
                self._is_torn = os.pread(fd, 1, length - 1) != b"\n"
                return fd
            # Another session's log.
            os.close(fd)
        fd = _open_to_append(f"{stem}-{self._token}.media.jsonl")
        return fd if os.fstat(fd).st_size > 0 else _begun(fd, first)

    def _session_at_work(self, host: str) -> str | None:
        """Returns the session of another process that is writing in this directory as the same rank.

        It has no launcher that says otherwise, so both are parts of one attempt: neither must replace the
        images of the other.
        """
        names = [name for name in os.listdir(self.dir) if name.startswith(f"rank{self.rank}-")]
        for name in sorted(names):
            if not name.endswith(".media.jsonl"):
                continue
            try:
                with open(os.path.join(self.dir, name), "rb") as file:
                    if name.startswith(f"rank{self.rank}-{host}-"):
                        is_at_work = _is_locked(file.fileno())
                    else:
                        # A lock of another host may not be seen here.
                        is_at_work = abs(time.time() - os.fstat(file.fileno()).st_mtime) < _AT_WORK_S
                    session = session_of_header(file.readline(4096)) if is_at_work else None
            except OSError:
                continue
            if session is not None:
                return session
        return None

    def _report(self, what: str, error: Exception) -> None:
        """Raises `error` if the run is strict, otherwise logs a warning once for each kind."""
        if self.strict:
            raise error
        self._warn(f"{what} is not logged", error)

    def _warn(self, what: str, error: Exception) -> None:
        """Logs a warning once for each kind of error."""
        # The message of an `OSError` contains the path. Leave that out: a full disk is one kind of failure.
        kind = (type(error), str(error.strerror if isinstance(error, OSError) else error))
        if kind not in self._reported and len(self._reported) < _REPORTED_MAX:
            self._reported.add(kind)
            _LOGGER.warning("%s: %s: %s (reported once)", what, type(error).__name__, error)
