"""The memory that the extension reads: strides, byte orders, types, protocols. Hypothesis chooses them.

    python -m unittest discover crates/native/tests
"""

from __future__ import annotations

import array
import ctypes
import gc
import io
import json
import sys
import threading
import unittest

import numpy as np
import safelight_native as native
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

TYPES = "? u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 c8 c16".split()
HWC = b'{"format": "HWC"}'


def types():
    return st.tuples(st.sampled_from("<>"), st.sampled_from(TYPES)).map(lambda t: np.dtype("".join(t)))


@st.composite
def views(draw):
    """A view of an array: every second row, backwards, transposed, repeated, or with bytes between elements."""
    dtype = draw(types())
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))
    values = draw(hnp.arrays(dtype, shape, fill=st.nothing()))
    kind = draw(st.sampled_from(["slices", "transposed", "repeated", "fields", "plain"]))
    if kind == "slices":
        steps = [draw(st.sampled_from([1, 2, -1, -2])) for _ in shape]
        return values[tuple(slice(None, None, step) for step in steps)]
    if kind == "transposed":
        return values.transpose(draw(st.permutations(range(3))))
    if kind == "repeated":
        return np.broadcast_to(values[:, :1], shape)
    if kind == "fields":
        record = np.zeros(shape, [("a", "u1"), ("value", dtype)])
        record["value"] = values
        return record["value"]
    return values


class ByDlpack:
    """An array that has nothing but `__dlpack__`."""

    def __init__(self, values, device=(1, 0)):
        self._values, self._device = values, device

    def __dlpack_device__(self):
        return self._device

    def __dlpack__(self, **_):
        return self._values.__dlpack__()


class ByInterface:
    """An array that has nothing but `__array_interface__`."""

    def __init__(self, values):
        self.values = values
        self.__array_interface__ = values.__array_interface__


def outcome(*args):
    """The pictures and their rules, or the type of the exception and its words.

    Statistics are left out: their last digits depend on the order in which the values lie.
    """
    try:
        return [(*made[:5], json.loads(made[5])["rule"], made[6]) for made in native.develop(*args)]
    except (TypeError, ValueError) as error:
        return type(error), str(error)


class Layouts(unittest.TestCase):
    @examples(200)
    @given(views(), st.sampled_from(["auto", "wandb-0.10", "wandb-0.20", "wandb-0.29"]))
    def test_a_view_gives_the_picture_of_its_copy(self, view, profile):
        record = b'{"format": "HWC", "profile": "%s"}' % profile.encode()
        copy = np.ascontiguousarray(view).astype(view.dtype.newbyteorder("<"))
        self.assertEqual(outcome(view, record), outcome(copy, record))
        if view.shape[2] <= 4:
            self.assertNotIsInstance(outcome(view, record), tuple)

    @examples(200)
    @given(views())
    def test_every_protocol_gives_the_same_picture(self, view):
        want = outcome(view, HWC)
        self.assertEqual(outcome(ByInterface(view), HWC), want)
        try:
            view.__dlpack__()
        except BufferError:
            pass
        else:
            self.assertEqual(outcome(ByDlpack(view), HWC), want)
        if view.dtype.kind != "c":
            self.assertEqual(outcome(memoryview(view), HWC), want)

    @examples(200)
    @given(views(), st.sampled_from(["auto", "wandb-0.20"]))
    def test_bytes_are_those_of_a_picture(self, view, profile):
        record = b'{"profile": "%s"}' % profile.encode()
        content, shape = native.to_uint8(view, record)
        self.assertEqual((tuple(shape), len(content)), (view.shape, view.size))
        contiguous = np.ascontiguousarray(view)
        self.assertEqual(native.to_uint8(contiguous, record)[0], content)

    @examples(200)
    @given(st.binary(max_size=200), st.binary(max_size=60))
    def test_any_bytes_are_a_picture_or_an_error(self, content, record):
        for call in (native.develop_file, native.develop):
            try:
                call(content, record)
            except (TypeError, ValueError):
                pass

    @examples(200)
    @given(
        st.lists(st.integers(-3, 1 << 62), max_size=5),
        st.lists(st.integers(-(1 << 62), 1 << 62), max_size=5),
        st.sampled_from(["<f4", "|u1", "<V2", ">c16", "|O", "", "<f3", "<f99999999999999999999"]),
    )
    def test_an_absurd_shape_is_an_error(self, shape, strides, typestr):
        # The address is one of nothing, so no element may be read. Empty arrays read none.
        interface = {"data": (0, True), "typestr": typestr, "shape": tuple(shape + [0]), "version": 3}
        interface["strides"] = tuple(strides)
        holder = type("Holder", (), {"__array_interface__": interface})()
        with self.assertRaises((TypeError, ValueError, OverflowError)):
            native.develop(holder, b"")


class Errors(unittest.TestCase):
    def check(self, want: str, call, *arguments):
        with self.assertRaises(ValueError) as caught:
            call(*arguments)
        self.assertEqual(str(caught.exception), want)

    def test_the_error_of_a_tensor_that_was_not_found_names_those_that_are_there(self):
        file = io.BytesIO()
        np.savez(file, a=np.zeros((2, 3), "u1"), b=np.ones((2, 3), "u1"))
        two = file.getvalue()
        self.assertEqual(len(native.develop_file(two, b"", "b")), 1)
        self.check('the dump has 2 tensors ("a", "b"), want one tensor', native.develop_file, two, b"")
        self.check('the dump has no tensor "c", want one of: "a", "b"', native.develop_file, two, b"", "c")
        file = io.BytesIO()
        np.save(file, np.zeros((2, 3), "u1"))
        unnamed = 'the dump has no tensor "c", its tensors have no names'
        self.check(unnamed, native.develop_file, file.getvalue(), b"", "c")

    def test_options_that_are_no_object_are_an_error(self):
        for record in b"[1]", b"null", b" ":
            self.check("image options are no JSON object", native.develop, np.zeros((2, 3), "u1"), record)


class Protocols(unittest.TestCase):
    def test_buffers_of_the_standard_library(self):
        want = native.develop(np.arange(6, dtype="f4").reshape(2, 3), b"")
        numbers = array.array("f", range(6))
        self.assertEqual(native.develop(memoryview(numbers).cast("B").cast("f", (2, 3)), b""), want)
        rows = ((ctypes.c_float * 3) * 2)(*((ctypes.c_float * 3)(*range(i, i + 3)) for i in (0, 3)))
        self.assertEqual(native.develop(rows, b""), want)

    def test_memory_of_another_device_is_refused_with_advice(self):
        values = np.zeros((2, 3), "f4")
        for device in (2, 13, 10, 8, 99):
            with self.assertRaisesRegex(TypeError, r"want memory of the CPU.*cpu\(\)"):
                native.develop(ByDlpack(values, (device, 0)), b"")
        self.assertEqual(len(native.develop(ByDlpack(values, (3, 0)), b"")), 1)

    def test_types_that_numpy_lacks(self):
        # 1.0 and 0.5 in each type.
        for name, one, half in [
            ("bfloat16", 0x3F80, 0x3F00),
            ("float8_e4m3fn", 0x38, 0x30),
            ("float8_e5m2", 0x3C, 0x38),
            ("float8_e4m3fnuz", 0x40, 0x38),
            ("float8_e5m2fnuz", 0x40, 0x3C),
            ("float8_e8m0fnu", 127, 126),
        ]:
            bits = np.array([[one, half]], "u2" if name == "bfloat16" else "u1")
            want, shape = native.to_uint8(np.float32([[1, 0.5]]), b"")
            self.assertEqual(native.to_uint8(bits, b"", name), (want, shape), name)
            void = ByInterface(bits.view(f"V{bits.itemsize}"))
            self.assertEqual(native.to_uint8(void, b"", name), (want, shape), name)
        for values, name in [(np.zeros((2, 2), "f4"), "bfloat16"), (np.zeros((2, 2)), "nothing")]:
            with self.assertRaises((TypeError, ValueError)):
                native.develop(values, b"", name)

    def test_dlpack_names_the_types_that_numpy_lacks(self):
        for code, bits, name in [(4, 16, "bfloat16"), (10, 8, "float8_e4m3fn"), (12, 8, "float8_e5m2")]:
            values = np.arange(6).reshape(2, 3).astype(f"u{bits // 8}")
            want = native.develop(values, b"", name)
            self.assertEqual(native.develop(Capsule(values, code, bits), b""), want, name)
        values = np.zeros((2, 3), "u1")
        for code, bits, lanes in [(3, 8, 1), (9, 8, 1), (17, 4, 1), (4, 8, 1), (1, 8, 4), (0, 3, 1)]:
            with self.assertRaises(TypeError):
                native.develop(Capsule(values, code, bits, lanes), b"")

    def test_what_is_no_array_is_refused(self):
        texts = np.array([["a", "b"]]), np.array([["2026"]], "M8[Y]"), np.zeros((2, 2), [("a", "u1"), ("b", "f4")])
        for value in (None, 1, "text", [[1]], object(), np.array([[object()]]), *texts):
            with self.assertRaises(TypeError):
                native.develop(value, b"")

    def test_an_exception_of_the_owner_is_passed_on(self):
        class Broken:
            def __dlpack_device__(self):
                raise KeyError("mine")

        with self.assertRaises(KeyError):
            native.develop(Broken(), b"")

    def test_nothing_is_kept(self):
        values = np.zeros((4, 4), "f4")
        before = sys.getrefcount(values)
        for given_ in (values, values[::-1], ByDlpack(values), ByInterface(values)):
            for _ in range(20):
                native.develop(given_, b"")
                with self.assertRaises(ValueError):
                    native.develop(given_, b'{"mode": "none"}')
        del given_
        gc.collect()
        self.assertEqual(sys.getrefcount(values), before)
        # A buffer that is still lent cannot be resized.
        numbers = bytearray(16)
        native.develop(memoryview(numbers).cast("B", (4, 4)), b"")
        numbers.extend(b"more")


class Capsule:
    """A tensor of DLPack, made by hand: a `DLManagedTensor` in a capsule, which has no deleter."""

    class Managed(ctypes.Structure):
        _fields_ = [
            ("data", ctypes.c_void_p),
            ("device_type", ctypes.c_int32),
            ("device_id", ctypes.c_int32),
            ("ndim", ctypes.c_int32),
            ("code", ctypes.c_uint8),
            ("bits", ctypes.c_uint8),
            ("lanes", ctypes.c_uint16),
            ("shape", ctypes.POINTER(ctypes.c_int64)),
            ("strides", ctypes.POINTER(ctypes.c_int64)),
            ("byte_offset", ctypes.c_uint64),
            ("manager", ctypes.c_void_p),
            ("deleter", ctypes.c_void_p),
        ]

    def __init__(self, values, code, bits, lanes=1):
        self._values = values
        self._shape = (ctypes.c_int64 * values.ndim)(*values.shape)
        # The data begins one element early, and there are no strides: C order.
        first = values.ctypes.data - values.itemsize
        self._managed = self.Managed(
            first, 1, 0, values.ndim, code, bits, lanes, self._shape, None, values.itemsize, None, None
        )

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, **_):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self._managed), b"dltensor", None)


class Threads(unittest.TestCase):
    def test_other_threads_run_meanwhile(self):
        values = np.random.default_rng(0).random((800, 800, 3)).astype("f4")
        done, ticks = threading.Event(), []

        def work():
            native.develop(values, HWC)
            done.set()

        thread = threading.Thread(target=work)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(60)
        try:
            thread.start()
            # With the interpreter held, this loop would not turn until the picture is done.
            while not done.wait(0.001):
                ticks.append(1)
        finally:
            sys.setswitchinterval(interval)
        thread.join()
        self.assertGreater(len(ticks), 3)

    def test_memory_that_changes_meanwhile_gives_some_picture(self):
        values = np.zeros((600, 600, 3), "f4")
        stop = threading.Event()

        def change():
            rng = np.random.default_rng(0)
            while not stop.is_set():
                values[:] = rng.choice([0.5, -0.5, 300.0, np.nan])

        thread = threading.Thread(target=change)
        thread.start()
        try:
            for _ in range(10):
                (made,) = native.develop(values, HWC)
                self.assertEqual(made[3], (600, 600))
        except ValueError as error:
            self.assertIn("channels", str(error))
        finally:
            stop.set()
            thread.join()

    def test_many_threads_make_the_same_pictures(self):
        values = np.random.default_rng(1).random((64, 48, 3)).astype("f4")
        want, got = native.develop(values, HWC), []
        threads = [
            threading.Thread(target=lambda: got.extend(native.develop(values, HWC) for _ in range(10)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((len(got), all(pictures == want for pictures in got)), (60, True))


if __name__ == "__main__":
    unittest.main()
