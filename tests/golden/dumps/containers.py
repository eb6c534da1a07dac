#!/usr/bin/env python3
"""Golden containers: dumps that hold more than pictures, or pictures in odd places.

    containers.py     containers/     numpy

NumPy writes the npy and npz files. The torch files are laid out as torch.save lays
them out: the real pickle writes them, with stand-ins for torch's classes. The
lists are those of make.py.
"""

import argparse
import collections
import dataclasses
import enum
import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
from make import Golden

random = np.random.default_rng(13)
U8 = random.integers(0, 256, (4, 5, 3), np.uint8)
F32 = random.random((3, 4, 5)).astype(np.float32)


def stand_in(module, name, is_class=False):
    """Makes a function or a class of this name, and its module."""
    parent, _, _ = module.partition(".")
    sys.modules.setdefault(parent, types.ModuleType(parent))
    made = sys.modules.setdefault(module, types.ModuleType(module))
    value = type(name, (), {}) if is_class else lambda *_: None
    value.__name__ = value.__qualname__ = name
    value.__module__ = module
    setattr(made, name, value)
    return value


REBUILD = stand_in("torch._utils", "_rebuild_tensor_v2")
REBUILD_PARAMETER = stand_in("torch._utils", "_rebuild_parameter")
REBUILD_QUANTIZED = stand_in("torch._utils", "_rebuild_qtensor")
REBUILD_FROM_ARRAY = stand_in("torch._utils", "_rebuild_device_tensor_from_numpy")
FROM_TYPE = stand_in("torch._tensor", "_rebuild_from_type_v2")
SUBCLASS = stand_in("vision.tensors", "Image", is_class=True)
OTHER_FUNCTION = stand_in("vision.tensors", "decode")
STORAGES = {
    np.dtype(dtype): stand_in("torch", f"{name}Storage", is_class=True)
    for dtype, name in {"float32": "Float", "uint8": "Byte", "int64": "Long", "float64": "Double"}.items()
}
UNKNOWN_STORAGE = stand_in("torch", "QUInt8Storage", is_class=True)
FLOAT32 = type("dtype", (), {"__reduce__": lambda self: "float32"})()
sys.modules["torch"].float32 = FLOAT32
type(FLOAT32).__module__ = "torch"


class Storage:
    def __init__(self, array, kind=None):
        self.array, self.kind = array, kind or STORAGES[array.dtype]


class Tensor:
    """A tensor. `wrap` makes what is pickled of the call that makes a plain one."""

    def __init__(self, array, wrap=None, kind=None):
        self.array, self.wrap = np.ascontiguousarray(array), wrap
        self.storage = Storage(self.array.reshape(-1), kind)

    def __reduce__(self):
        strides = tuple(stride // self.array.itemsize for stride in self.array.strides)
        call = REBUILD, (self.storage, 0, self.array.shape, strides, False, OrderedDict())
        return self.wrap(*call) if self.wrap else call


def subclass(state):
    return lambda function, args: (FROM_TYPE, (function, SUBCLASS, args, state))


class Pickler(pickle.Pickler):
    def __init__(self, file, protocol):
        super().__init__(file, protocol)
        self.storages = []

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        if value not in self.storages:
            self.storages.append(value)
        return "storage", value.kind, str(self.storages.index(value)), "cpu", value.array.size


def save(value, path, protocol=2):
    data = io.BytesIO()
    pickler = Pickler(data, protocol)
    pickler.dump(value)
    with zipfile.ZipFile(path, "w") as zipped:

        def write(name, data):
            zipped.writestr(zipfile.ZipInfo(f"archive/{name}"), data)

        write("data.pkl", data.getvalue())
        write("byteorder", "little")
        for key, storage in enumerate(pickler.storages):
            write(f"data/{key}", storage.array.tobytes())
        write("version", "3\n")


def row(name, value):
    array = np.ascontiguousarray(value.array if isinstance(value, Tensor) else value)
    # ascontiguousarray gives a scalar an axis.
    shape = value.shape if isinstance(value, np.ndarray) else array.shape
    return name, array.dtype.name, shape, array.astype(array.dtype.newbyteorder("<")).tobytes()


@dataclasses.dataclass
class Sample:
    image: object
    label: int


Point = collections.namedtuple("Point", "mask weight")


class Phase(enum.Enum):
    TRAIN = 1


# pickle looks names up in their modules.
for thing in (Sample, Point, Phase):
    thing.__module__ = "trainer"
    sys.modules.setdefault("trainer", types.ModuleType("trainer")).__dict__[thing.__name__] = thing


def appended(*arrays, tail=b""):
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array, allow_pickle=True)
    return file.getvalue() + tail


def numpy_files(out):
    def npy(name, *arrays, **how):
        rows = [row(str(i), a) for i, a in enumerate(arrays) if a.dtype.kind in "biufc"]
        out.good(f"{name}.npy", rows).write_bytes(appended(*arrays, **how))
        for i, array in enumerate(arrays):
            if array.dtype.kind not in "biufc":
                out.bad_tensor(f"{name}.npy", str(i), f"elements of dtype {array.dtype}")

    npy("appended", U8, 255 - U8)
    npy("appended-shapes", U8, np.asfortranarray(F32), np.arange(3), np.array(2.5), F32.astype(">f4"))
    npy("appended-objects", U8, np.array([{"label": "cat"}, None, "x" * 300], object), F32)
    npy("appended-text", np.array(["a", "bcd"]), U8, np.array([b"xy"]), np.zeros(2, "M8[ns]"), F32)
    fields = [("r", "<f4"), ("xy", "u1", (2, 3)), ("in", [("a", "<i2"), ("b", "S3")])]
    npy("appended-structure", np.zeros(2, fields), U8, np.zeros((2, 2), np.dtype(fields, align=True)), F32)

    labels = {"img": U8, "label": np.array(3), "name": np.array("cat"), "box": np.arange(4.0)}
    objects = {"objects": np.array([{}, None], object), "dates": np.zeros((2, 2), "M8[s]")}
    rows = [row(name, array) for name, array in labels.items() if name != "name"]
    np.savez(out.good("labels.npz", rows), **labels, **objects)
    for name in ("name", *objects):
        out.bad_tensor("labels.npz", name, "no numbers")
    with zipfile.ZipFile(out.good("readme.npz", [row("img", U8)]), "w") as zipped:
        zipped.writestr(zipfile.ZipInfo("img.npy"), appended(U8))
        zipped.writestr(zipfile.ZipInfo("README.txt"), "Pictures of cats.")


def torch_files(out):
    def pt(name, value, tensors, protocol=2):
        save(value, out.good(f"{name}.pt", [row(*tensor) for tensor in tensors.items()]), protocol)

    a, b, c, d = (F32 * scale for scale in (1.0, 0.5, 0.25, 0.125))
    keys = {"a": a, ("b", 1): b, None: c, 7: d, 1.5: a, True: b, b"\0b": c, ("it's", ("x",)): d, Phase: a}
    texts = ["a", "('b', 1)", "None", "7", "1.5", "True", "b'\\x00b'", "(\"it's\", ('x',))", "trainer.Phase"]
    tensors = dict(zip(texts, keys.values(), strict=True))
    for protocol in (2, 4, 5):
        pt(f"odd-keys-{protocol}", {key: Tensor(array) for key, array in keys.items()}, tensors, protocol)

    save({1: Tensor(a), "1": Tensor(b), "x/y": Tensor(c), "x": {"z": Tensor(d)}}, out.good("same-text.pt", []))

    beside = {"psnr": np.float32(31.2), "args": argparse.Namespace(lr=1e-3, layers=[1, 2]), "phase": Phase.TRAIN}
    beside |= {"function": len, "slice": slice(1, 2), "dtype": np.dtype("f4"), "epoch": 3, "note": "text", "empty": {}}
    beside |= {"call": collections.Counter("aab"), "long": 2**80, "history": [0.1] * 50, "none": None}
    pt("opaque", {"image": Tensor(a), **beside}, {"image": a})
    pt("opaque-4", {"image": Tensor(a), **beside}, {"image": a}, 4)

    within = {
        "sample": Sample(Tensor(a), 3),
        "point": Point(Tensor(b), 0.5),
        "namespace": argparse.Namespace(image=Tensor(c)),
        "ordered": OrderedDict(x=Tensor(d)),
        "default": collections.defaultdict(list, x=[Tensor(a), 5]),
        "deque": collections.deque([Tensor(b)], 3),
        "set": {1, 2},
    }
    tensors = {"sample/image": a, "point/0": b, "namespace/image": c, "ordered/x": d, "default/x/0": a}
    tensors |= {"deque/0": b}
    for protocol in (2, 4):
        pt(f"within-{protocol}", within, tensors, protocol)

    parameter = Tensor(b, lambda function, args: (REBUILD_PARAMETER, (Made(function, args), True, OrderedDict())))
    of_array = Tensor(d, lambda function, args: (REBUILD_FROM_ARRAY, (d, FLOAT32, "xla:0", False)))
    subclasses = {"plain": Tensor(a, subclass({})), "parameter": parameter, "array": of_array}
    subclasses["attribute"] = Tensor(c, subclass({"caption": "a cat", "mask": Tensor(d)}))
    tensors = {"plain": a, "parameter": b, "array": d, "attribute": c, "attribute/attributes/mask": d}
    pt("subclass", subclasses, tensors)

    arrays = {"image": U8, "big": F32.astype(">f8"), "fortran": np.asfortranarray(F32[0])}
    arrays |= {"label": np.array(3), "box": np.arange(4.0), "high": np.full((2, 2), 255, np.uint8)}
    for protocol in (2, 4):
        pt(f"arrays-{protocol}", arrays | {"name": np.array("cat"), "things": np.array([{}, 1])}, arrays, protocol)
        for name in ("name", "things"):
            out.bad_tensor(f"arrays-{protocol}.pt", name, "no numbers")

    # A tensor that depends on what is not known costs only itself.
    bad = {
        "good": Tensor(a),
        "quantized": Tensor(b, lambda _, args: (REBUILD_QUANTIZED, args)),
        "storage": Tensor(U8, kind=UNKNOWN_STORAGE),
        "made": Tensor(c, lambda _, args: (FROM_TYPE, (OTHER_FUNCTION, SUBCLASS, (1, 2), {}))),
    }
    pt("one-bad", bad, {"good": a})
    for name in ("quantized", "storage", "made"):
        out.bad_tensor("one-bad.pt", name, "depends on what is not known")


class Made:
    """What a call makes."""

    def __init__(self, function, args):
        self.call = function, args

    def __reduce__(self):
        return self.call


if __name__ == "__main__":
    with Golden("containers") as out:
        numpy_files(out)
        torch_files(out)
