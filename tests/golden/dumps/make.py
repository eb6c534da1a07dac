#!/usr/bin/env python3
"""Golden dumps: small tensor files from the real writers, and files to refuse.

    make.py numpy         npz/ npy/            numpy, ml_dtypes
    make.py safetensors   safetensors-X.Y/     numpy, ml_dtypes, safetensors
    make.py torch         torch-X.Y/           torch, numpy, safetensors
    make.py hostile       refused/hostile-*    Python alone

Each step needs Python 3.11 and the packages named on its line. It replaces only
its own files, and its own lines in the lists. A second run writes the same
bytes, except for the order in a __metadata__ and the storage keys in torch's
legacy.pt. The files were made on Linux x86-64 with

    numpy              numpy==2.4.6 ml_dtypes==0.6.0
    safetensors-0.8    numpy==2.4.6 ml_dtypes==0.6.0 safetensors==0.8.0
    safetensors-0.3    numpy==1.26.4 ml_dtypes==0.6.0 safetensors==0.3.3
    torch-1.13         Debian 12: python3-torch 1.13.1+dfsg-4, python3-numpy
                       1.24.2; and safetensors==0.8.0
    torch-2.15         torch==2.15.0 numpy==2.4.6 safetensors==0.8.0

expected.jsonl has a line for each tensor, in the order of the file: npz by
member, safetensors by data offset, torch by dict or list.

    file      relative to this directory
    tensor    npz: the member without .npy. torch: keys and indices joined with
              "/". null for the tensor of an .npy, or one that torch saved alone
    dtype, shape
    bytes     base64 of the elements in C order, little-endian
    descr     npy only: the descr in its header, which does not name the dtype
    packed    true: sub-byte elements, packed in `bytes` as in the file, the
              first in the low bits; otherwise each element has a byte
    metadata  safetensors only: the __metadata__ of the file, if present

refused/refused.jsonl has a line for each file to refuse, with "why". A line
with "tensor" refuses only that tensor; expected.jsonl has the others.
"""

import base64
import contextlib
import datetime
import io
import json
import pickle
import shutil
import struct
import sys
import tempfile
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXPECTED = HERE / "expected.jsonl"
REFUSED = HERE / "refused" / "refused.jsonl"

PLAIN = "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64".split()
FLOATS = "float16 float32 float64 complex64 complex128".split()
NARROW = "bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu".split()
SUB_BYTE = "float4_e2m1fn float6_e2m3fn float6_e3m2fn".split()


class Golden:
    """The files of one step: NAME/* and refused/NAME-*, and their lines."""

    def __init__(self, name):
        self.name = name
        self.mine = (f"{name}/", f"refused/{name}-")
        self.expected, self.refused = [], []

    def __enter__(self):
        REFUSED.parent.mkdir(exist_ok=True)
        shutil.rmtree(HERE / self.name, ignore_errors=True)
        for old in REFUSED.parent.glob(f"{self.name}-*"):
            old.unlink()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.merge(EXPECTED, self.expected)
            self.merge(REFUSED, self.refused)

    def merge(self, path, lines):
        old = map(json.loads, path.read_text("utf-8").splitlines()) if path.exists() else []
        lines = [line for line in old if not line["file"].startswith(self.mine)] + lines
        lines.sort(key=lambda line: line["file"])
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path.write_text(text, "utf-8")

    def good(self, file, tensors, **notes):
        """Expects tensors (name, dtype, shape, bytes) in a file. Returns its path."""
        for name, dtype, shape, data in tensors:
            line = {"file": self.mine[0] + file, "tensor": name, "dtype": dtype}
            line |= {"shape": list(shape), "bytes": base64.b64encode(data).decode()}
            self.expected.append(line | notes)
        (HERE / self.name).mkdir(exist_ok=True)
        return HERE / self.name / file

    def bad(self, file, why, data=None):
        """Expects that a file is refused. Writes `data` if given. Returns its path."""
        self.refused.append({"file": self.mine[1] + file, "why": why})
        path = HERE / (self.mine[1] + file)
        if data is not None:
            path.write_bytes(data)
        return path

    def bad_tensor(self, file, tensor, why):
        self.refused.append({"file": self.mine[0] + file, "tensor": tensor, "why": why})


# ---- numpy -------------------------------------------------------------------


def values(dtype, *shape):
    """Random integers over the whole range, or floats around 0 with NaN, infinities and -0."""
    import numpy as np

    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return values.random.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return values.random.integers(info.min, info.max, shape, dtype, endpoint=True)
    made = np.asarray(values.random.normal(size=shape))
    if dtype.kind == "c":
        made = made + 1j * np.asarray(values.random.normal(size=shape))
    elif dtype.name == "float8_e8m0fnu":
        made = abs(made)
    if made.size >= 12 and dtype.name not in SUB_BYTE:
        made.flat[:4] = np.nan, np.inf, -np.inf, -0.0
    return made.astype(dtype)


def seed():
    import numpy as np

    values.random = np.random.default_rng(7)


def row(name, array):
    """The expected line of a numpy array."""
    if array.dtype.byteorder == ">":
        array = array.byteswap().view(array.dtype.newbyteorder("<"))
    return name, array.dtype.name, array.shape, array.tobytes()


def rows(arrays):
    return [row(name, array) for name, array in arrays.items()]


def npy_bytes(array):
    import numpy as np

    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class Stream:
    """A file without seek, like a pipe."""

    def __init__(self, file):
        self.write, self.flush = file.write, file.flush
        self.read = None  # NumPy takes an object with `read` for a file


@contextlib.contextmanager
def zip64_everywhere():
    """Makes zipfile use zip64 for every size."""
    limit, zipfile.ZIP64_LIMIT = zipfile.ZIP64_LIMIT, 0
    yield
    zipfile.ZIP64_LIMIT = limit


def make_numpy():
    import ml_dtypes
    import numpy as np

    seed()
    with Golden("npz") as out:
        few = {"image": values("f4", 4, 5, 3), "mask": values("?", 4, 5), "id": values("i8")}
        np.savez(out.good("stored.npz", rows(few)), **few)
        np.savez_compressed(out.good("deflated.npz", rows(few)), **few)

        every = {name: values(name, 3, 5) for name in PLAIN + FLOATS}
        np.savez(out.good("dtypes.npz", rows(every)), **every)

        swapped = {k: v.astype(v.dtype.newbyteorder(">")) for k, v in every.items()}
        np.savez(out.good("big-endian.npz", rows(swapped)), **swapped)

        fortran = {
            "rgb": np.asfortranarray(values("f4", 4, 5, 3)),
            "big": np.asfortranarray(values("i2", 4, 5).astype(">i2")),
            "transposed": values("u1", 4, 5).T,
            "permuted": values("u1", 2, 3, 4).transpose(1, 2, 0),
            "steps": values("f8", 6, 6)[::2, ::-3],
        }
        np.savez(out.good("fortran.npz", rows(fortran)), **fortran)

        shapes = [(), (0,), (0, 3), (3, 0, 2), (1,), (1, 1, 1, 1, 1), (2, 1, 3, 1, 2)]
        shapes = {"x".join(map(str, s)) or "scalar": values("f4", *s) for s in shapes}
        np.savez(out.good("shapes.npz", rows(shapes)), **shapes)

        names = ["z", "a", "a/b", "a/b/c", "größe", "写真", "with space", "dots.in.name", "x.npy"]
        names = {name: values("u1", 2, 2) for name in names}
        np.savez(out.good("names.npz", rows(names)), **names)

        first, second, named = values("f4", 2, 3), values("i4", 4), values("u1", 2)
        placed = {"named": named, "arr_0": first, "arr_1": second}
        np.savez(out.good("positional.npz", rows(placed)), first, second, named=named)

        versions = [((1, 0), "v1"), ((2, 0), "v2"), ((3, 0), "v3")]
        versions = {name: (version, values("f4", 2, 3)) for version, name in versions}
        path = out.good("npy-versions.npz", [row(k, a) for k, (_, a) in versions.items()])
        with zipfile.ZipFile(path, "w") as zipped:
            for name, (version, array) in versions.items():
                with zipped.open(zipfile.ZipInfo(name + ".npy"), "w") as member:
                    np.lib.format.write_array(member, array, version)

        def pack(file, zipped_into=lambda file: file, comment=b"", **how):
            with open(out.good(file, rows(few)), "wb") as raw:
                with zipfile.ZipFile(zipped_into(raw), "w") as zipped:
                    zipped.comment = comment
                    for name, array in few.items():
                        with zipped.open(zipfile.ZipInfo(name + ".npy"), "w", **how) as member:
                            member.write(npy_bytes(array))

        pack("plain-zip.npz")
        pack("comment.npz", comment=b"a comment")
        pack("streamed-plain-zip.npz", Stream)
        with open(out.good("streamed.npz", rows(few)), "wb") as raw:
            np.savez(Stream(raw), **few)
        with open(out.good("streamed-deflated.npz", rows(few)), "wb") as raw:
            np.savez_compressed(Stream(raw), **few)
        with zip64_everywhere():
            pack("zip64-directory.npz", force_zip64=True)
            pack("streamed-zip64-directory.npz", Stream, force_zip64=True)

        odd = {
            "objects": np.array([{"a": 1}, None], object),
            "text": np.array(["ab", "c"]),
            "raw": np.array([b"ab", b"c"]),
            "struct": np.zeros(2, [("a", "<f4"), ("b", "u1")]),
            "date": np.zeros(2, "M8[s]"),
            "longdouble": np.zeros(2, np.longdouble),
            "void": np.zeros(2, "V3"),
        }
        beside = {"before": values("f4", 2, 3), **odd, "after": values("u1", 3)}
        expected = {name: beside[name] for name in ("before", "after")}
        np.savez(out.good("odd-members.npz", rows(expected)), **beside)
        for name, array in odd.items():
            out.bad_tensor("odd-members.npz", name, f"elements of dtype {array.dtype}")

    with Golden("npy") as out:
        for name in NARROW + SUB_BYTE:
            array = values(getattr(ml_dtypes, name), 3, 4, 3)
            data = npy_bytes(array)
            descr = np.lib.format.header_data_from_array_1_0(array)["descr"]
            assert f"'descr': {descr!r}".encode() in data
            out.good(f"{name}.npy", [row(None, array)], descr=descr).write_bytes(data)


# ---- safetensors -------------------------------------------------------------


def by_offset(data, tensors):
    """Returns the expected lines in the order of the data offsets, and __metadata__ if present."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", None)
    names = sorted(header, key=lambda name: header[name]["data_offsets"])
    by_name = {line[0]: line for line in tensors}
    return [by_name[name] for name in names], {"metadata": dict(sorted(metadata.items()))} if metadata else {}


def make_safetensors():
    import ml_dtypes  # noqa: F401  registers its dtypes by name
    import safetensors
    from safetensors.numpy import save

    def write(file, data, tensors):
        lines, notes = by_offset(data, tensors)
        out.good(file, lines, **notes).write_bytes(data)

    def writes(dtype):
        try:
            return bool(save({"x": values(dtype, 2, 2)}))
        except Exception:  # the exception for an unknown dtype depends on the release
            return False

    seed()
    version = ".".join(safetensors.__version__.split(".")[:2])
    with Golden(f"safetensors-{version}") as out:
        every = {name: values(name, 3, 5) for name in PLAIN + FLOATS + NARROW if writes(name)}
        write("dtypes.safetensors", save(every), rows(every))

        one = {"image": values("f4", 6, 7, 3)}
        text = {"key": "samples/great", "step": "120", "caption": 'größe "写真"\n', "format": "np"}
        write("metadata.safetensors", save(one, metadata=text), rows(one))

        shapes = [(), (0,), (3, 0, 2), (1,), (2, 1, 3, 1, 2)]
        shapes = {"x".join(map(str, s)) or "scalar": values("f4", *s) for s in shapes}
        write("shapes.safetensors", save(shapes), rows(shapes))

        names = ["z", "a", "a.weight", "a/b", "größe", "写真", 'quote " and \\', ""]
        names = {name: values("u1", 2, 2) for name in names}
        write("names.safetensors", save(names), rows(names))

        mixed = {"u1": values("u1", 3), "f8": values("f8", 2), "i2": values("i2", 1), "?": values("?", 5)}
        write("mixed-alignment.safetensors", save(mixed), rows(mixed))

        if hasattr(safetensors, "TensorSpec"):
            packed = values("u1", 3, 4)  # rows of 8 elements
            spec = safetensors.TensorSpec(
                dtype="float4_e2m1fn_x2", shape=packed.shape, data_ptr=packed.ctypes.data, data_len=12
            )
            path = out.good("float4.safetensors", [("x", SUB_BYTE[0], (3, 8), packed.tobytes())], packed=True)
            path.write_bytes(safetensors.serialize({"x": spec}))
            # The Python writer has no six-bit dtypes. The reader has them and accepts these files.
            for dtype, name in zip(SUB_BYTE[1:], ["F6_E2M3", "F6_E3M2"]):
                packed = values("u1", 6).tobytes()
                path = out.good(f"{dtype[:6]}_{dtype[7:]}.safetensors", [("x", dtype, (2, 4), packed)], packed=True)
                header = {"x": {"dtype": name, "shape": [2, 4], "data_offsets": [0, 6]}}
                path.write_bytes(safetensors_file(header, packed))
                safetensors.deserialize(path.read_bytes())


# ---- torch -------------------------------------------------------------------


def tensors_in(value, path=()):
    """Yields the expected line of each tensor that torch saves."""
    import torch

    if isinstance(value, torch.Tensor):
        data, dtype, shape = value.detach().contiguous(), str(value.dtype)[6:], list(value.shape)
        data = data.reshape(-1).view(torch.uint8).numpy().tobytes() if data.numel() else b""
        yield "/".join(path) or None, dtype, shape, data
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors_in(inner, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from tensors_in(inner, (*path, str(index)))


def tensor(dtype, *shape):
    import torch

    if dtype in PLAIN:
        return torch.from_numpy(values(dtype, *shape))
    wide = values("complex128" if "complex" in dtype else "float64", *shape)
    return torch.from_numpy(abs(wide) if "e8m0" in dtype else wide).to(getattr(torch, dtype))


def torch_good():
    """Yields name and value of files that Safelight must read."""
    import torch
    from torch import nn

    torch.manual_seed(7)
    known = [name for name in PLAIN + FLOATS + NARROW if hasattr(torch, name)]
    yield "lone", tensor("float32", 6, 7, 3)
    yield "dtypes", {name: tensor(name, 3, 5) for name in known}
    yield "dict", {"image": tensor("float32", 4, 5, 3), "mask": tensor("bool", 4, 5)}
    yield "int-keys", {0: tensor("uint8", 2), 7: tensor("uint8", 3), -1: tensor("uint8", 1), 300: tensor("int8", 2)}
    yield "list", [tensor("uint8", 2), tensor("int16", 3), tensor("float64")]
    yield "list-of-one", [tensor("uint8", 2)]
    yield "tuple", tuple(tensor("uint8", n) for n in range(1, 6))
    nested = {"b": [tensor("uint8", 2), {"c": (tensor("int8", 3), 5)}], "d": {}, "e": [], "f": ()}
    yield "nested", {"a": nested, "z": tensor("float32", 2)}
    yield "shapes", [tensor("float32", *s) for s in [(), (0,), (3, 0, 2), (1,), (2, 1, 3, 1, 2)]]

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(3, 2))
    yield "state-dict", model.state_dict()
    adam = torch.optim.Adam(model[2].parameters(), lr=1e-3)
    model[2](tensor("float32", 1, 3).nan_to_num(0)).sum().backward()
    adam.step()
    yield "checkpoint", {"epoch": 3, "model": model[2].state_dict(), "optimizer": adam.state_dict()}
    yield "parameter", nn.Parameter(tensor("float32", 2, 3))
    frozen = nn.Parameter(tensor("float32", 2), requires_grad=False)
    yield (
        "parameters",
        {"a": frozen, "b": nn.Parameter(tensor("float16", 3)), "c": tensor("float32", 2).requires_grad_()},
    )

    base = tensor("float32", 5, 6, 2)
    yield "view-offset", base[2:5]
    yield "views", {"rows": base[1:3], "inner": base[2:, 1:4, 1], "steps": base[::2, ::3], "one": base[3, 4, 1]}
    yield "permuted", {"chw": base.permute(2, 0, 1), "t": base[..., 0].t()}
    yield "channels-last", tensor("float32", 2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    yield "expanded", {"rows": base[:1, :, 0].expand(4, 6), "scalar": tensor("float32").expand(2, 3)}
    yield "overlapping", base[:, 0, 0].unfold(0, 3, 1)
    yield "size-one-strides", base.as_strided((1, 3, 1), (1000, 2, 0), 4)
    yield "shared-storage", {"x": base, "flat": base.view(-1)[5:9], "hwc": base.permute(1, 0, 2)}
    yield "same-twice", {"a": base, "b": base, "list": [base, base]}
    yield "many-views", {f"row {i}": base.view(-1)[i : i + 2] for i in range(50)}

    numbers = [0, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -1, -(2**31), -(2**31) - 1, 2**64, -(2**70), 10**400]
    yield (
        "beside",
        {
            "numbers": numbers,
            "floats": [0.5, -0.0, float("inf"), float("nan")],
            "text": ["", "größe 写真", "long " * 60],
            "none": None,
            "x": tensor("float32", 2, 2),
            "bools": (True, False),
            "size": torch.Size([2, 3]),
            "device": torch.device("cpu"),
            "dtype": torch.float16,
            ("a", 1): "key",
            None: 1,
            1.5: True,
        },
    )
    yield "beside-bytes", {"bytes": b"\0\xff", "none": b"", "x": tensor("uint8", 2)}
    if hasattr(torch, "float4_e2m1fn_x2"):
        yield "untyped-storage", {"offset": tensor("uint16", 6)[2:5], "t": tensor("float8_e5m2", 2, 3).t()}


def torch_bad():
    """Yields name, value and reason of files that Safelight must refuse."""
    import torch

    x = tensor("float32", 3, 4).nan_to_num(0)
    yield "module", torch.nn.Linear(2, 2), "GLOBAL of a class: a whole nn.Module"
    yield "numpy", {"x": x, "a": x.numpy()}, "GLOBAL of numpy: an array in the dict"
    yield "datetime", {"x": x, "when": datetime.datetime(2020, 1, 2)}, "GLOBAL datetime"
    yield "sparse", x.to_sparse(), "sparse tensor"
    yield "sparse-csr", x.to_sparse_csr(), "sparse tensor"
    yield "quantized", torch.quantize_per_tensor(x, 0.1, 3, torch.quint8), "quantized tensor"
    yield "complex32", x.to(torch.complex64).to(torch.complex32), "complex32 has no name here"
    yield "meta", torch.empty(2, 3, device="meta"), "a meta tensor has no data"
    if torch.__version__ < "2":  # torch 1 does not save the properties that the next ones test
        return
    yield "float4", tensor("uint8", 3, 4).view(torch.float4_e2m1fn_x2), "two elements in a byte"
    yield "conj", tensor("complex64", 2, 2).conj(), "lazy conjugate: the storage has other values"
    yield "neg", tensor("complex64", 2, 2).conj().imag, "lazy negative: the storage has other values"
    with_attribute = x.clone()
    with_attribute.caption = "text"
    yield "attribute", with_attribute, "_rebuild_from_type_v2: a tensor with Python attributes"


def make_torch():
    import torch

    def archive(value, **how):
        file = io.BytesIO()
        torch.save(value, file, **how)
        return file.getvalue()

    seed()
    version = ".".join(torch.__version__.split(".")[:2])
    with Golden(f"torch-{version}") as out:
        for name, value in torch_good():
            torch.save(value, out.good(f"{name}.pt", tensors_in(value)))

        value = {"x": tensor("float32", 2, 3), "list": [1, -1, 2**40, "text", b"raw"], "y": tensor("bfloat16", 2)}
        for protocol in (2, 3, 4, 5):
            path = out.good(f"protocol-{protocol}.pt", tensors_in(value))
            torch.save(value, path, pickle_protocol=protocol)
        out.good("buffer.pth", tensors_in(value)).write_bytes(archive(value))
        with tempfile.TemporaryDirectory() as folder:
            torch.save(value, Path(folder) / "größe.x.pt")
            shutil.copy(Path(folder) / "größe.x.pt", out.good("name-not-ascii.pt", tensors_in(value)))

        with cuda_location():
            out.good("cuda-location.pt", tensors_in(value)).write_bytes(archive(value))
        if hasattr(torch.serialization, "set_crc32_options"):
            torch.serialization.set_crc32_options(False)
            out.good("no-crc32.pt", tensors_in(value)).write_bytes(archive(value))
            torch.serialization.set_crc32_options(True)

        for name, value, why in torch_bad():
            try:
                data = archive(value)
            except Exception as error:  # this release cannot write it
                print("not written:", name, error)
            else:
                out.bad(f"{name}.pt", why, data)
        legacy = archive({"x": tensor("float32", 2)}, _use_new_zipfile_serialization=False)
        out.bad("legacy.pt", "the format before zip", legacy)
        script = torch.jit.trace(torch.nn.Linear(2, 1), torch.zeros(2))
        torch.jit.save(script, str(out.bad("torchscript.pt", "TorchScript archive")))

        from safetensors.torch import save

        every = {}
        for name in PLAIN + FLOATS + NARROW:
            with contextlib.suppress(Exception):  # torch or safetensors may not have it
                save({"x": tensor(name, 2, 3)})
                every[name] = tensor(name, 2, 3)
        data = save(every, metadata={"format": "pt", "step": "3"})
        lines, notes = by_offset(data, tensors_in(every))
        out.good("dtypes.safetensors", lines, **notes).write_bytes(data)


@contextlib.contextmanager
def cuda_location():
    """Makes torch.save record that each storage was on a GPU."""
    from torch import serialization

    tag, serialization.location_tag = serialization.location_tag, lambda storage: "cuda:0"
    yield
    serialization.location_tag = tag


# ---- hostile: zip ------------------------------------------------------------


@dataclass
class Member:
    """A member. `local` and `central` override fields of its local header and directory entry.

    If `local` is None, the member has neither local header nor data, only a directory entry.
    """

    name: str
    body: bytes = b""
    method: int = 0
    flags: int = 0
    packed: bytes = None
    local: dict = field(default_factory=dict)
    central: dict = field(default_factory=dict)


def deflate(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def zip_fields(says):
    name = says["name"].encode()
    sizes = says["crc"], says["packed"], says["size"], len(name), 0
    return struct.pack("<5H3L2H", 20, says["flags"], says["method"], 0, 33, *sizes), name


def zip_file(*members, **end):
    """A zip file. `end` overrides fields of its end record."""
    data, directory = b"", b""
    for m in members:
        packed = m.packed or (deflate(m.body) if m.method == 8 else m.body)
        truth = {"name": m.name, "flags": m.flags, "method": m.method, "offset": len(data)}
        truth |= {"crc": zlib.crc32(m.body), "packed": len(packed), "size": len(m.body)}
        says = truth | m.central
        fields, name = zip_fields(says)
        directory += b"PK\1\2\x14\0" + fields + struct.pack("<3H2L", 0, 0, 0, 0, says["offset"]) + name
        if m.local is not None:
            data += b"PK\3\4" + b"".join(zip_fields(truth | m.local)) + packed
    says = {"entries": len(members), "size": len(directory), "offset": len(data)} | end
    counts = says["entries"], says["entries"], says["size"], says["offset"]
    return data + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *counts, 0)


def npy(shape, data, descr="<f4"):
    header = str({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def hostile_npz():
    """Yields file name, reason and bytes."""
    small = npy((2, 2), bytes(range(16)))
    a, b = Member("a.npy", small), Member("b.npy", npy((3,), bytes(12)))
    good = zip_file(a, b)

    def one(body=small, both=None, **fields):
        if both:
            fields |= {"local": both, "central": both}
        return zip_file(Member("a.npy", body, **fields))

    zeros, huge = bytes(10_000_000), (2_500_000_000,)
    yield "bomb-few-promised", "10 MB where the npy header promises 16 bytes", one(npy((4,), zeros), method=8)
    yield (
        "bomb-many-promised",
        "1 MB where the npy header promises 10 GB",
        one(npy(huge, zeros[:1_000_000]), method=8),
    )
    lie = {"size": len(small)}
    yield "bomb-size-lies", "1 MB where both zip headers say 144", one(npy((4,), zeros[:1_000_000]), lie, method=8)
    yield "many-promised", "16 bytes where the npy header promises 10 GB", one(npy(huge, bytes(16)))
    yield "shape-overflow", "the number of elements is beyond 64 bits", one(npy((2**33, 2**33), bytes(16)))
    yield "too-few-bytes", "the npy header promises more than the member has", one(small[:-1])
    yield "too-many-bytes", "the member has more than its npy header promises", one(small + b"\0")

    entry = zip_file(b)[: 30 + len(b.name) + len(b.body)]
    outer = Member("a.npy", npy((len(entry),), entry, "|u1"))
    at = 30 + len(outer.name) + len(outer.body) - len(entry)
    inner = Member("b.npy", b.body, local=None, central={"offset": at})
    yield "overlap-inside", "a member lies inside the data of another", zip_file(outer, inner)
    whole = npy((56,), bytes(16) + entry[:40], "|u1")
    says = {"packed": len(whole), "size": len(whole), "crc": zlib.crc32(whole)}
    longer = Member("a.npy", whole[:-40], local=says, central=says)
    yield "overlap-next", "a member's data runs into the next member", zip_file(longer, b)
    same = Member("b.npy", small, local=None, central={"offset": 0})
    yield "overlap-same", "two members at one place, under two names", zip_file(a, same)
    yield "same-name", "two members of one name", zip_file(a, Member("a.npy", b.body))

    differ = {"name": "c.npy"}, {"size": 10, "packed": 10}, {"method": 8}, {"crc": 1}, {"flags": 1}
    for says in differ:
        what = next(iter(says))
        yield f"local-{what}", f"local header and directory differ: {what}", one(local=says)
    yield "local-nowhere", "no local header where the directory says", one(central={"offset": 7})
    yield "encrypted", "the encryption flag is set", one(flags=1)
    yield "crc", "the CRC-32 is another", one(both={"crc": 1})
    for method in (12, 14, 93, 99):
        yield f"method-{method}", f"compression method {method}", one(method=method)
    packed = deflate(small)
    for what, broken in {"cut": packed[:-5], "broken": b"\xff" + packed[1:], "more": packed + b"more"}.items():
        yield f"deflate-{what}", f"deflate stream: {what}", one(method=8, packed=broken)
    for what, size in {"small": len(small) - 1, "large": len(small) + 1, "huge": 2**32 - 2}.items():
        yield f"size-{what}", f"size too {what} in both headers", one(both={"size": size}, method=8)
        both = {"size": size, "packed": size}
        yield f"stored-size-{what}", f"sizes too {what} in both headers", one(both=both)

    yield "entries-5000", "the end says 5000 entries, the directory has 2", zip_file(a, b, entries=5000)
    yield "entries-1", "the end says 1 entry, the directory has 2", zip_file(a, b, entries=1)
    yield "entries-zip64", "the end refers to a zip64 end that is not there", zip_file(a, b, entries=0xFFFF)
    yield "directory-size", "the end says a directory of 4 GB", zip_file(a, b, size=2**32 - 2)
    yield "directory-offset", "the end says a directory behind the end", zip_file(a, b, offset=2**31)
    yield "directory-elsewhere", "the end says a directory where none is", zip_file(a, b, offset=4)
    end = len(good) - 22
    cuts = {"at-0": 0, "in-local-header": 20, "in-data": 100, "in-second": 200, "in-directory": end - 30}
    for what, at in (cuts | {"before-end": end, "in-end": end + 17}).items():
        yield f"cut-{what}", f"truncated: {what}", good[:at]
    yield "nested", "a zip in a zip, and no .npy", zip_file(Member("inner.npz", good))
    yield "nested-as-npy", "a member called .npy is a zip", one(good)


# ---- hostile: safetensors ----------------------------------------------------


def safetensors_file(header, data, size=None):
    if isinstance(header, dict):
        header = json.dumps(header).encode()
        header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def hostile_safetensors():
    """Yields file name, reason and bytes."""
    data = bytes(range(16))

    def x(**fields):
        return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | fields

    def one(data=data[:8], **fields):
        return safetensors_file({"a": x(**fields)}, data)

    def two(first, second, data):
        return safetensors_file({"a": x(data_offsets=first), "b": x(data_offsets=second)}, data)

    def header(text, size=None):
        return safetensors_file(text, data[:8], size)

    yield "overlap", "two tensors overlap", two([0, 8], [4, 12], data[:12])
    yield "same-place", "two tensors at one place", two([0, 8], [0, 8], data[:8])
    yield "gap", "a gap between two tensors", two([0, 8], [12, 20], data + data[:4])
    yield "gap-at-start", "a gap before the first tensor", one(data, data_offsets=[8, 16])
    yield "beyond-end", "offsets behind the end of the file", two([0, 8], [8, 16], data[:12])
    yield "trailing", "bytes behind the last tensor", one(data)
    yield "few-bytes", "the shape wants more bytes than the offsets give", one(shape=[3])
    yield "many-bytes", "the shape wants fewer bytes than the offsets give", one(shape=[1])
    yield "offset-huge", "an offset beyond 64 bits", one(data_offsets=[0, 2**64 + 8])
    yield "offset-negative", "a negative offset", one(data_offsets=[-8, 0])
    yield "offset-float", "offsets that are no integers", one(data_offsets=[0.0, 8.0])
    yield "offset-text", "offsets that are text", one(data_offsets=["0", "8"])
    yield "offset-order", "begin behind end", one(data_offsets=[8, 0])
    yield "offset-three", "three offsets", one(data_offsets=[0, 8, 8])
    yield "shape-overflow", "the shape overflows 64 bits", one(shape=[2**63, 2**63, 2])
    yield "shape-negative", "negative lengths", one(shape=[-1, -2])
    yield "shape-float", "a length that is no integer", one(shape=[2.0])
    yield "dtype-unknown", "an unknown dtype", one(dtype="F33")
    odd = one(data[:2], dtype="F4", shape=[3], data_offsets=[0, 2])
    yield "dtype-odd-bits", "three F4 elements do not fill bytes", odd
    yield "field-missing", "no data_offsets", header(b'{"a": {"dtype": "F32", "shape": [2]}}')

    good = json.dumps({"a": x()}).encode()
    twice = good[:-1] + b", " + good[1:]
    yield "duplicate-name", "a tensor name twice", header(twice)
    yield "duplicate-field", "a field twice", header(good.replace(b'"shape"', b'"dtype": "I32", "shape"'))
    yield "not-json", "the header is not JSON", header(good.replace(b'"', b"'"))
    yield "not-object", "the header is no object", header(b"[" + good + b"]")
    yield "not-utf8", "the header is not UTF-8", header(good.replace(b"a", b"\xff", 1))
    yield "json-cut", "the JSON ends early", header(good[:-1])
    yield "json-more", "the JSON goes on behind its end", header(good + b" {}")
    yield "deep", "JSON nested 3000 deep", header(b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}")
    for what, metadata in {"number": {"step": 1}, "text": "text", "nested": {"a": {}}}.items():
        file = safetensors_file({"__metadata__": metadata, "a": x()}, data[:8])
        yield f"metadata-{what}", "metadata that is no object of texts", file
    sizes = {"huge": 2**64 - 1, "large": 10**12, "limit": 100_000_001, "zero": 0}
    for what, size in (sizes | {"over": len(good) + 9, "one-less": len(good) - 1}).items():
        yield f"header-length-{what}", f"header length: {what}", header(good, size)
    yield "nothing", "an empty file", b""
    yield "short", "too short for a header length", b"\x08\0\0\0"


# ---- hostile: torch ----------------------------------------------------------
# Pickles are assembled from opcodes, like those of torch.save with protocol 2.


def p_global(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def p_text(text):
    return b"X" + struct.pack("<L", len(text.encode())) + text.encode()


def p_int(number):
    encoded = pickle.encode_long(number)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def p_tuple(*items):
    return b"(" + b"".join(items) + b"t"


def p_call(module, attribute, *arguments):
    return p_global(module, attribute) + p_tuple(*arguments) + b"R"


def p_storage(kind="FloatStorage", key="0", numel=4, tag="storage", module="torch"):
    return p_tuple(p_text(tag), p_global(module, kind), p_text(key), p_text("cpu"), p_int(numel)) + b"Q"


def p_tensor(storage=None, offset=0, size=(2, 2), stride=(2, 1)):
    size, stride = (p_tuple(*map(p_int, numbers)) for numbers in (size, stride))
    hooks = p_call("collections", "OrderedDict")
    parts = storage or p_storage(), p_int(offset), size, stride, b"\x89", hooks
    return p_call("torch._utils", "_rebuild_tensor_v2", *parts)


def torch_file(body, key="0", data=bytes(range(16)), stop=b".", pkl="data.pkl"):
    members = {pkl: b"\x80\2" + body + stop, "byteorder": b"little", f"data/{key}": data, "version": b"3\n"}
    return zip_file(*(Member(f"archive/{name}", body) for name, body in members.items()))


def hostile_torch():
    """Yields file name, reason and bytes."""
    x = p_tensor()
    true = p_text("true")
    system = p_call("os", "system", true)

    def tensor(**parts):
        return torch_file(p_tensor(**parts))

    def storage(**parts):
        return tensor(storage=p_storage(**parts))

    for what, body in {
        "reduce": system,
        "reduce-beside": b"](" + x + system + b"e",
        "stack-global": p_text("posix") + p_text("system") + b"\x93" + p_tuple(true) + b"R",
        "inst": b"(" + true + b"ios\nsystem\n",
        "obj": b"(" + p_global("os", "system") + true + b"o",
        "newobj": p_global("subprocess", "Popen") + p_tuple(true) + b"\x81",
        "build": x + p_tuple(true, true) + b"b",
        "extension": b"\x82\1",
        "torch-load": p_call("torch", "load", true),
    }.items():
        yield f"code-{what}", f"runs code: {what}", torch_file(body)

    yield "key-parent", "storage key with ../", torch_file(p_tensor(p_storage(key="../0")), key="../0")
    yield "key-absolute", "storage key that is a path", storage(key="/etc/hostname")
    yield "storage-missing", "no member for the storage", storage(key="7")
    yield "storage-short", "fewer bytes than the storage has elements", torch_file(x, data=bytes(12))
    yield "storage-long", "more bytes than the storage has elements", torch_file(x, data=bytes(20))
    yield "storage-unknown", "an unknown storage class", storage(kind="FooStorage")
    yield "storage-elsewhere", "a storage class of another module", storage(module="os")
    yield "persistent-tag", "a persistent id that is no storage", storage(tag="module")
    yield "persistent-text", "a persistent id that is text", tensor(storage=p_text("0") + b"Q")
    four = p_tuple(p_text("storage"), p_global("torch", "FloatStorage"), p_text("0"), p_text("cpu")) + b"Q"
    yield "persistent-four", "a persistent id of four parts", tensor(storage=four)
    yield "persistent-line", "a persistent id by PERSID", tensor(storage=b"P0\n")
    yield "storage-list", "a tensor of a list", tensor(storage=b"]")

    yield "numel-huge", "a storage of 2**60 elements in 16 bytes", storage(numel=2**60)
    yield "numel-negative", "a storage of -4 elements", storage(numel=-4)
    yield "stride-outside", "strides that reach behind the storage", tensor(stride=(100, 1))
    yield "stride-one-outside", "strides that reach one element behind the storage", tensor(stride=(3, 1))
    yield "stride-negative", "a negative stride", tensor(offset=2, stride=(-2, 1))
    yield "stride-overflow", "strides that overflow 64 bits", tensor(size=(3, 2), stride=(2**63, 1))
    yield "stride-rank", "more strides than lengths", tensor(stride=(2, 1, 1))
    yield "offset-outside", "an offset that reaches behind the storage", tensor(offset=1)
    yield "offset-negative", "a negative offset", tensor(offset=-1)
    yield "offset-huge", "an offset beyond 64 bits", tensor(offset=2**64)
    yield "size-negative", "negative lengths", tensor(size=(-2, -2))
    yield "size-overflow", "the number of elements is beyond 64 bits", tensor(size=(2**33,) * 2, stride=(0, 0))
    yield "expanded-huge", "2**40 elements expanded out of one", tensor(size=(2**20,) * 2, stride=(0, 0))

    # memo[i + 1] = [memo[i], memo[i]]
    double = b"".join(b"](h%ch%ceq%c0" % (i, i, i + 1) for i in range(40))
    yield "memo-bomb", "lists that double 40 times", torch_file(x + b"q\x000" + double + b"h\x28")
    yield "deep", "tuples nested 10000 deep", torch_file(x + b"\x85" * 10_000)
    yield "recursive-list", "a list that has itself", torch_file(b"]q\0(" + x + b"h\0e")
    yield "recursive-dict", "a dict that has itself", torch_file(b"}q\0(" + p_text("x") + x + p_text("y") + b"h\0u")
    for what, body in {
        "empty": b"",
        "memo-missing": b"h\5",
        "mark-missing": b"t",
        "opcode-unknown": x + b"\xff",
        "protocol-200": b"\x80\xc8" + x,
        "text-length": b"X\xff\xff\xff\x7fabc",
        "text-length-8": b"\x8d" + struct.pack("<Q", 2**63) + b"abc",
        "text-not-utf8": b"X\2\0\0\0\xff\xfe",
        "long-length-negative": b"\x8b\xff\xff\xff\xff",
        "frame-too-long": b"\x95" + struct.pack("<Q", 2**40) + x,
        "key-list": b"}(]" + x + b"u",
    }.items():
        yield f"pickle-{what}", f"broken pickle: {what}", torch_file(body)
    yield "pickle-cut", "a pickle without STOP", torch_file(x, stop=b"")
    yield "no-pickle", "no data.pkl", torch_file(x, pkl="other.pkl")
    yield "plain-pickle", "a pickle that is in no zip", pickle.dumps({"a": [1.5, 2]}, 2)


def make_hostile():
    with Golden("hostile") as out:
        kinds = {"npz": hostile_npz, "safetensors": hostile_safetensors, "pt": hostile_torch}
        for ending, files in kinds.items():
            for file, why, data in files():
                assert len(data) < 20_000, (file, len(data))
                out.bad(f"{file}.{ending}", why, data)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    steps = {"numpy": make_numpy, "safetensors": make_safetensors, "torch": make_torch, "hostile": make_hostile}
    if len(sys.argv) != 2 or sys.argv[1] not in steps:
        sys.exit(__doc__)
    steps[sys.argv[1]]()
