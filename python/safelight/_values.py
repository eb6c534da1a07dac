"""Values of other libraries: as JSON, as steps, and searched for images."""

from __future__ import annotations

import collections
import collections.abc
import itertools
import json
import math
import numbers
import operator
import re
import sys
from typing import Any, Iterator, Mapping, NamedTuple, Union

__all__ = ["PassedOver", "is_a", "is_picture", "json_bytes", "plain", "search", "utf_8", "whole_step"]


def is_a(value: Any, module: str, name: str) -> bool:
    """Whether `value` is an instance of a class of another library. Never imports the library."""
    wanted = getattr(sys.modules.get(module), name, None)
    return isinstance(wanted, type) and isinstance(value, wanted)


# ---------------------------------------------------------------------------------------------
# JSON.

# Longest whole number, in bits, that JSON readers keep exactly.
_INT_BITS_MAX = 63

# Lists under other names, and what yields their values one by one.
_ITERATED = (collections.deque, collections.abc.MappingView, collections.abc.Iterator)

# Most values that are taken from one, which may be endless. The limits of the reader are lower.
_PLAIN_ITERATOR_MAX = 1 << 20

# Longest whole number, in bits, that Python turns into decimal digits without a limit of its own.
_DIGITS_BITS_MAX = 2048


def plain(value: Any) -> Any:
    """`value` in types that JSON has.

    Numbers and arrays of any library become those of Python, keys become text, and so does a value that
    has no better form. An iterator is used up.

    Raises `ValueError` for an iterator that may be endless, `RecursionError` for a value that contains itself.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > _INT_BITS_MAX:
        return str(value) if value.bit_length() <= _DIGITS_BITS_MAX else hex(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return {_text(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "replace")
    if isinstance(value, _ITERATED) and not hasattr(value, "read"):
        iterated: Any = value
        items = [plain(item) for item in itertools.islice(iterated, _PLAIN_ITERATOR_MAX + 1)]
        if len(items) > _PLAIN_ITERATOR_MAX:
            raise ValueError(f"got an iterator of more than {_PLAIN_ITERATOR_MAX} values")
        return items
    for name in ("tolist", "numpy"):
        convert = getattr(value, name, None)
        if callable(convert):
            converted = convert()
            # A scalar of a type that NumPy lacks may return itself.
            if type(converted) is not type(value) or not hasattr(value, "__float__"):
                return plain(converted)
    is_number = hasattr(value, "__float__") and not isinstance(value, numbers.Complex)
    number: Any = value
    return float(number) if is_number or isinstance(value, numbers.Real) else str(value)


def _text(key: Any) -> str:
    return str(key if isinstance(key, (str, tuple)) else plain(key))


# Half of a surrogate pair, which UTF-8 does not have.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def utf_8(text: str) -> bytes:
    """Returns the text in UTF-8, with U+FFFD in place of what UTF-8 does not have."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("\ufffd", text).encode("utf-8")


def json_bytes(value: Any) -> bytes:
    """Returns a plain value as JSON on one line. Not a number and the infinities stay as Python writes them."""
    return utf_8(_ENCODER.encode(value))


# ---------------------------------------------------------------------------------------------
# Steps.


def whole_step(step: Any) -> int:
    """Returns a step as a whole number. A float, or an array of one number, may hold it.

    Raises `TypeError` if it is no number, `ValueError` if it is not whole or below 0.
    """
    try:
        whole = operator.index(step)
    except TypeError:
        if isinstance(step, (str, bytes, bytearray)) or not hasattr(step, "__float__"):
            raise TypeError(f"got a step of type {type(step).__name__}, want a whole number") from None
        number = float(step)
        if not math.isfinite(number) or number != int(number):
            raise ValueError(f"got step {number}, want a whole number from 0") from None
        whole = int(number)
    if not 0 <= whole < 1 << 64:
        raise ValueError(f"got step {whole}, want a whole number from 0 to {(1 << 64) - 1}")
    return whole


# ---------------------------------------------------------------------------------------------
# The search for images.

# Deepest nesting of dicts and lists that is searched.
_DEPTH_MAX = 64

# Most values that are taken from an iterator, which may be endless.
_ITERATOR_MAX = 65_536

# A longer list that begins with a number or a text is not searched.
_LIST_SEARCHED_MAX = 1000

_SCALARS = (str, bytes, bytearray, memoryview, numbers.Number, type(None), range)
_COLLECTIONS = (list, tuple, set, frozenset, collections.deque, collections.abc.MappingView)


class PassedOver(NamedTuple):
    """A value in which no image was found."""

    kind: str
    # Whether it is a picture that lacks its `Image`.
    is_picture: bool


Found = Union[Any, PassedOver, Exception]


def search(data: Mapping[Any, Any], image: type) -> Iterator[tuple[str, Found]]:
    """Yields each instance of `image` in a dict with its key, in order.

    Searches dicts, whose keys are joined by `/`, and everything that can be iterated: lists, tuples, sets,
    generators, arrays of objects. An iterator is used up, unless its first value shows that it yields no
    images. In place of an image, yields a `PassedOver` for what may have been meant as one, and the
    exception that ended the search of a value.
    """
    for name, value in data.items():
        try:
            key = name if isinstance(name, str) else _text(name)
        except Exception as error:
            yield "a key", error
            continue
        # The most common values come first.
        if isinstance(value, image):
            yield key, value
        elif isinstance(value, (list, tuple)) and value and all([isinstance(item, image) for item in value]):
            for item in value:
                yield key, item
        elif not isinstance(value, (float, int, str)):
            yield from _search_value(key, value, image, 0)


def _search_value(key: str, value: Any, image: type, depth: int) -> Iterator[tuple[str, Found]]:
    if isinstance(value, image):
        yield key, value
        return
    try:
        if isinstance(value, _SCALARS):
            return
        if depth >= _DEPTH_MAX:
            raise ValueError(f"nested deeper than {_DEPTH_MAX} levels, or contains itself")
        if isinstance(value, Mapping):
            for name, item in value.items():
                yield from _search_value(f"{key}/{_text(name)}", item, image, depth + 1)
            return
        values = _values(value)
        if values is None:
            is_scalar = isinstance(getattr(value, "shape", None), tuple) and not is_picture(value)
            if not is_scalar:
                yield key, _passed_over(value)
            return
        is_certain = isinstance(value, _COLLECTIONS) or _is_object_array(value)
        yield from _search_values(key, value, values, is_certain, image, depth)
    except Exception as error:
        yield key, error


def _search_values(
    key: str, value: Any, values: Iterator[Any], is_certain: bool, image: type, depth: int
) -> Iterator[tuple[str, Found]]:
    """Searches the values of a list or another iterable. `is_certain` says that looking at them is free."""
    n_images, other = 0, None
    for i, item in enumerate(values):
        if i == 0 and isinstance(item, _SCALARS) and item is not None:
            n = len(value) if hasattr(value, "__len__") else 0
            if not is_certain or n > _LIST_SEARCHED_MAX:
                if not is_certain:
                    yield key, _passed_over(value)
                return
        if not is_certain and i == _ITERATOR_MAX:
            yield key, ValueError(f"an iterator of more than {_ITERATOR_MAX} values")
            return
        n_before = n_images
        for found in _search_value(key, item, image, depth + 1):
            n_images += isinstance(found[1], image)
            yield found
        if n_images == n_before and item is not None and isinstance(item, _SCALARS):
            other = other or item
    if n_images and other is not None:
        yield key, _passed_over(other)


def _is_object_array(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", None) == "O"


def _values(value: Any) -> Any:
    """Returns an iterator over the values of `value`, or `None` if it is one value by itself."""
    if isinstance(value, _COLLECTIONS):
        values: Any = value
        return iter(values)
    if _is_object_array(value):
        return iter(value.flat if hasattr(value, "flat") else value)
    if hasattr(value, "shape") or hasattr(value, "read") or is_picture(value):
        return None
    # One value more than is searched, to notice that there are more.
    return itertools.islice(iter(value), _ITERATOR_MAX + 1) if hasattr(value, "__iter__") else None


def is_picture(value: Any) -> bool:
    """Whether `value` is probably a picture: an array of two axes or more, a Pillow image, a figure."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and hasattr(value, "dtype"):
        return len(shape) > 1
    if is_a(value, "PIL.Image", "Image") or hasattr(value, "savefig"):
        return True
    kind = type(value)
    return kind.__name__ == "Image" and kind.__module__.partition(".")[0] == "wandb"


def _passed_over(value: Any) -> PassedOver:
    kind = type(value)
    return PassedOver(f"{kind.__module__}.{kind.__qualname__}", is_picture(value))
