"""CUDA tensors, played by a module that stands in for torch: no GPU is needed.

A stream is a list of work that runs once the test opens the gate, and at the latest when a thread waits for it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import unittest
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Iterator
from unittest import mock

from case import GRAY, Case, read_npy
from live import installed

from safelight import Image, Run, _cuda

numpy: Any = installed("numpy")


class Stream:
    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.work: list[Callable[[], None]] = []

    def wait_stream(self, other: Stream) -> None:
        self.work.append(other.run)

    def run(self) -> None:
        self.gate.wait()
        while self.work:
            self.work.pop(0)()


class Event:
    def __init__(self, blocking: bool) -> None:
        assert blocking, "any other event keeps a core busy"

    def record(self, stream: Stream) -> None:
        self.stream = stream

    def synchronize(self) -> None:
        FAKE.waiters.append(threading.current_thread())
        self.stream.run()


class Tensor:
    def __init__(self, values: Any, device: str = "cuda", dtype: str = "") -> None:
        self.values = values
        self.device = SimpleNamespace(type=device, index=0)
        self.dtype = f"torch.{dtype or values.dtype.name}"
        self.shape = values.shape

    def detach(self) -> Tensor:
        return self

    def numel(self) -> int:
        return int(self.values.size)

    def element_size(self) -> int:
        return int(self.values.itemsize)

    def is_contiguous(self) -> bool:
        return bool(self.values.flags.c_contiguous)

    def clone(self, memory_format: str) -> Tensor:
        assert memory_format == "contiguous"
        FAKE.n_clones += 1
        copy = Tensor(numpy.full_like(self.values, 77, order="C"), "cuda", self.dtype[6:])
        # Only a stream that waits for this one sees the copy. The caller may change the tensor in the same stream.
        values = self.values.copy()
        FAKE.current.work.append(lambda: copy.values.__setitem__(..., values))
        return copy

    def record_stream(self, stream: Stream) -> None:
        FAKE.recorded.append(self)

    def copy_(self, source: Tensor, non_blocking: bool) -> None:
        assert non_blocking and self.is_contiguous() and FAKE.current is FAKE.side
        FAKE.side.work.append(lambda: self.values.__setitem__(..., source.values))

    def cpu(self) -> Tensor:
        FAKE.n_waits += 1
        return Tensor(self.values.copy(), "cpu", self.dtype[6:])

    def numpy(self) -> Any:
        return self.values

    def reshape(self, length: int) -> Tensor:
        return Tensor(self.values.reshape(length), "cpu", self.dtype[6:])

    def view(self, dtype: str) -> Tensor:
        return Tensor(self.values.view({"torch.uint8": "u1"}[dtype]), "cpu")


class Fake:
    """The state behind the stand-in."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.default, self.side = Stream(self.gate), Stream(self.gate)
        self.current = self.default
        self.n_clones = self.n_waits = 0
        self.recorded: list[Tensor] = []
        self.waiters: list[threading.Thread] = []
        self.has_pinned = True

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def empty(self, shape: Any, dtype: str, pin_memory: bool) -> Tensor:
        assert pin_memory
        if not self.has_pinned:
            raise RuntimeError("CUDA error: out of memory")
        numpy_type = {"torch.bfloat16": "u2"}.get(dtype, dtype[6:])
        return Tensor(numpy.full(shape, 99).astype(numpy_type), "cpu", dtype[6:])


FAKE: Fake


@unittest.skipUnless(numpy, "numpy is not installed")
class CudaTest(Case):
    def setUp(self) -> None:
        super().setUp()
        global FAKE
        FAKE = Fake()
        self.addCleanup(FAKE.gate.set)
        torch: Any = ModuleType("torch")
        torch.Tensor, torch.empty, torch.uint8 = Tensor, FAKE.empty, "torch.uint8"
        torch.contiguous_format = "contiguous"
        torch.cuda = SimpleNamespace(
            Stream=lambda device: FAKE.side,
            Event=Event,
            current_stream=lambda device: FAKE.default,
            stream=FAKE.stream,
        )
        for patch in (
            mock.patch.dict(sys.modules, {"torch": torch}),
            mock.patch.dict(_cuda._streams, clear=True),
        ):
            patch.start()
            self.addCleanup(patch.stop)
        self.values = numpy.arange(24, dtype="f4").reshape(3, 2, 4)

    def check(self, want: Any, line: dict[str, Any]) -> None:
        self.assertEqual(read_npy(self.path(line["data"])).elements, want.tobytes())
        self.assertEqual(line["format"], "CHW")

    def test_log_waits_for_nothing(self) -> None:
        run = Run(self.dir, strict=True)
        want = self.values.copy()
        image = Image(Tensor(self.values), caption="c")
        self.values[:] = 0
        self.assertIs(run.log({"k": image}), True)
        self.assertEqual((self.logs(), FAKE.n_clones, FAKE.n_waits), ([], 1, 0))
        self.assertEqual((len(FAKE.recorded), FAKE.recorded[0].values is self.values), (1, False))
        FAKE.gate.set()
        self.assertIs(run.flush(20), True)
        self.check(want, self.lines()[0])
        self.assertNotIn(threading.main_thread(), FAKE.waiters)

    def test_a_given_tensor_is_not_copied_on_the_device(self) -> None:
        run = Run(self.dir, strict=True)
        run.log({"k": Image(Tensor(self.values), donate=True)})
        turned = self.values.transpose(0, 2, 1)
        run.log({"turned": Image(Tensor(turned), donate=True)})
        FAKE.gate.set()
        run.flush(20)
        self.assertEqual((FAKE.n_clones, FAKE.recorded[0].values is self.values), (1, True))
        self.check(self.values, self.lines()[0])
        self.check(turned, self.lines()[1])

    def test_lines_are_in_the_order_of_the_calls(self) -> None:
        run = Run(self.dir, strict=True)
        run.log({"k": Image(Tensor(self.values))})
        threading.Timer(0.05, FAKE.gate.set).start()
        # What does not wait for a device is there once it was logged, as always.
        run.log({"k": Image(GRAY)})
        self.assertEqual([line["step"] for line in self.lines()], [0, 1])

    def test_types(self) -> None:
        FAKE.gate.set()
        run = Run(self.dir, strict=True)
        for dtype in "bool uint8 int16 int64 float16 float64 complex64".split():
            values = self.values.astype(dtype)
            run.log({"k": Image(Tensor(values))})
            run.flush(20)
            got = read_npy(self.path(self.lines()[-1]["data"]))
            self.assertEqual((got.descr, got.elements), (values.dtype.str, values.tobytes()))
        bits = self.values.astype("u2")
        run.log({"k": [Image(Tensor(bits, dtype="bfloat16")) for _ in range(4)]})
        run.flush(20)
        for i, line in enumerate(self.lines()[-4:]):
            want = {"dtype": "bfloat16", "shape": [3, 2, 4], "byte_order": "little", "offset": 48 * i}
            self.assertEqual({name: line["data"][name] for name in want}, want)
            with open(self.path(line["data"]["path"]), "rb") as file:
                self.assertEqual(file.read(), bits.tobytes() * 4)

    def test_masks(self) -> None:
        run = Run(self.dir, strict=True)
        ids = self.values[0].astype("i8")
        run.log({"k": Image(GRAY, masks={"m": {"mask_data": Tensor(ids)}})})
        self.assertEqual(self.logs(), [])
        FAKE.gate.set()
        run.finish()
        mask = self.lines()[0]["masks"]["m"]["mask_data"]
        self.assertEqual(read_npy(self.path(mask)).elements, ids.tobytes())

    def test_limits_are_told_before_the_elements_are_there(self) -> None:
        run = Run(self.dir, limits={"pixels_max": 7})
        self.assertIs(run.log({"k": Image(Tensor(self.values))}), False)
        self.assertIn("a picture of 8 pixels", self.warnings[0])

    def test_without_pinned_memory_the_copy_is_waited_for(self) -> None:
        FAKE.has_pinned = False
        run = Run(self.dir, strict=True)
        run.log({"k": Image(Tensor(self.values))})
        self.check(self.values, self.lines()[0])
        self.assertEqual(FAKE.n_waits, 1)


if __name__ == "__main__":
    unittest.main()
