"""Copies of NumPy arrays in memory.

The memory of large copies is used again. The system clears each page of fresh memory when it is first touched, which
takes longer than the copy itself, and longer than a plain write of the same bytes.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import weakref
from typing import Any, Deque

__all__ = ["copied"]

# A smaller array is copied by NumPy alone.
_SMALL_BYTES = 1 << 16

# Size from which memory is used again. The allocator does so by itself for less.
_REUSED_BYTES_MIN = 1 << 20

# Most memory that is kept while no copy needs it, in bytes.
_KEPT_BYTES_MAX = 64 << 20

# Longest last axis that is copied entry by entry: channels. Bytes that are copied so at a time.
_CHANNELS_MAX = 4
_PART_BYTES = 1 << 20

# Arrays of bytes that no copy uses. Each operation is atomic, because memory may return at any time, in any thread.
_free: Deque[Any] = collections.deque()


def copied(values: Any) -> Any:
    """Copies the elements of a `numpy.ndarray`, in C order. Returns an object with a flat buffer of bytes."""
    if values.nbytes < _SMALL_BYTES:
        return values.tobytes()
    memory = _memory(values.nbytes)
    copy = memory.view(values.dtype).reshape(values.shape)
    n_last = values.shape[-1]
    if n_last <= _CHANNELS_MAX and values.ndim > 1 and values.strides[-2] != n_last * values.strides[-1]:
        # NumPy's innermost loop would run over these few elements, as of channels that came first.
        _copy_channels(copy, values)
    else:
        copy[...] = values
    return memory.data


def _copy_channels(copy: Any, values: Any) -> None:
    """Copies one entry of the last axis after another, of parts that stay in the cache."""
    n_bytes = values.nbytes // len(values)
    if n_bytes > _PART_BYTES and values.ndim > 3:
        for part, of_values in zip(copy, values):
            _copy_channels(part, of_values)
        return
    n_rows = max(1, _PART_BYTES // n_bytes)
    for start in range(0, len(values), n_rows):
        part, of_values = copy[start : start + n_rows], values[start : start + n_rows]
        for i in range(values.shape[-1]):
            part[..., i] = of_values[..., i]


def _memory(n_bytes: int) -> Any:
    """An array of bytes. If it is large, its memory is used again once nothing refers to it."""
    numpy: Any = sys.modules["numpy"]
    if n_bytes < _REUSED_BYTES_MIN:
        return numpy.empty(n_bytes, "u1")
    whole = _taken(n_bytes)
    if whole is None:
        whole = numpy.empty(n_bytes, "u1")
    memory = whole[:n_bytes]
    weakref.finalize(memory, _give_back, whole).atexit = False
    return memory


def _taken(n_bytes: int) -> Any:
    for _ in range(len(_free)):
        try:
            whole = _free.popleft()
        except IndexError:
            break
        if n_bytes <= whole.nbytes <= 2 * n_bytes:
            return whole
        _free.append(whole)
    return None


def _give_back(whole: Any) -> None:
    _free.append(whole)
    with contextlib.suppress(IndexError):
        while sum([each.nbytes for each in tuple(_free)]) > _KEPT_BYTES_MAX:
            _free.popleft()
