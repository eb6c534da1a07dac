"""Writes a run with every kind of input that the environment supports, and prints the expected images.

    python live.py RUN_DIR

RUN_DIR must not exist yet. The output is one JSON list, with an object for each expected image:

| field | meaning |
| --- | --- |
| `key`, `step`, `index` | the position of the image in the run |
| `width`, `height` | the size in pixels; null for a file that is stored unchanged |
| `mode` | `L`, `LA`, `RGB` or `RGBA`; null for a file that is stored unchanged |
| `pixels` | the pixels in base64, rows from the top, channels interleaved; null for such a file |
| `sha256` | 64 hex digits for a file that is stored unchanged; otherwise null |
| `caption`, `grouping`, `classes`, `boxes` | the expected values; null if not given |
| `masks` | null, or by name: `{"width", "height", "pixels", "sha256", "class_labels"}`, as above |

The profile is `auto`, unless a line names another. The values are chosen so that no pixel depends on
rounding. Standard error lists the groups that were written (`numpy`, `torch`, …).
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import json
import os
import struct
import sys
import tempfile
import zlib
from types import ModuleType
from typing import Any, Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import safelight

# Width and height differ, so that a test fails if rows and columns are confused.
WIDTH, HEIGHT = 4, 3
GRAY = bytes([0, 1, 2, 100, 101, 127, 128, 129, 200, 253, 254, 255])
LA = bytes(value for i, gray in enumerate(GRAY) for value in (gray, 255 - 7 * i))
RGB = bytes((37 * i) % 256 for i in range(3 * WIDTH * HEIGHT))
RGBA = bytes((53 * i) % 256 for i in range(4 * WIDTH * HEIGHT))
CHANNELS = {"L": (1, GRAY), "LA": (2, LA), "RGB": (3, RGB), "RGBA": (4, RGBA)}
IDS = bytes([0, 1, 1, 0, 2, 2, 7, 7, 127, 128, 200, 255])


def png(pixels: bytes = RGB, width: int = WIDTH, n_channels: int = 3) -> bytes:
    """A PNG file of 8-bit gray, gray and alpha, RGB or RGBA."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    row = width * n_channels
    rows = [b"\0" + pixels[at : at + row] for at in range(0, len(pixels), row)]
    header = struct.pack(">IIBBBBB", width, len(rows), 8, {1: 0, 2: 4, 3: 2, 4: 6}[n_channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def nested(values: Sequence[Any], *shape: int) -> Any:
    """`values` as nested lists of this shape."""
    if len(shape) == 1:
        return list(values)
    n = len(values) // shape[0]
    return [nested(values[at : at + n], *shape[1:]) for at in range(0, len(values), n)]


def channels_first(pixels: bytes, n_channels: int) -> bytes:
    return b"".join(pixels[channel::n_channels] for channel in range(n_channels))


def mask(pixels: bytes | None = IDS, labels: Any = None, file: bytes | None = None) -> dict[str, Any]:
    """The expected mask."""
    return {
        "width": None if pixels is None else WIDTH,
        "height": None if pixels is None else HEIGHT,
        "pixels": pixels and base64.b64encode(pixels).decode(),
        "sha256": file and hashlib.sha256(file).hexdigest(),
        "class_labels": labels,
    }


class Live:
    """A run, and the images expected of it."""

    def __init__(self, directory: str) -> None:
        self.run = safelight.Run(directory, strict=True, id="live", config={"lr": 0.1, "limit": float("inf")})
        self.expected: list[dict[str, Any]] = []

    def expect(self, key: str, mode: str | None, pixels: bytes | None, step: int = 0, **more: Any) -> None:
        n_channels = len(mode or "")
        n_before = sum((item["key"], item["step"]) == (key, step) for item in self.expected)
        item: dict[str, Any] = {
            **{"key": key, "step": step, "index": n_before, "mode": mode, "pixels": None, "sha256": None},
            **{"width": None, "height": None},
            **dict.fromkeys(["caption", "grouping", "classes", "boxes", "masks"]),
        }
        if pixels is not None:
            item["pixels"] = base64.b64encode(pixels).decode()
            item["width"], item["height"] = WIDTH, len(pixels) // n_channels // WIDTH
        self.expected.append({**item, **more})

    def image(self, key: str, data: Any, want: str, pixels: bytes | None = None, **options: Any) -> None:
        """Logs `data`, and expects `pixels` of mode `want`. Default: the pixels in `CHANNELS`."""
        self.run.log({key: safelight.Image(data, **options)}, step=0)
        self.expect(key, want, CHANNELS[want][1] if pixels is None else pixels)

    def file(self, key: str, data: Any, content: bytes | None = None, **options: Any) -> None:
        """Logs `data`, and expects a file with the bytes `content`. Default: those of the image's dump."""
        image = safelight.Image(data, **options)
        self.run.log({key: image}, step=0)
        content = b"".join(image._dump.parts) if content is None else content
        self.expect(key, None, None, sha256=hashlib.sha256(content).hexdigest())


def write_plain(live: Live) -> None:
    """Writes the inputs that need no other library."""
    live.image("lists/whole", nested(list(GRAY), HEIGHT, WIDTH), "L")
    live.image("lists/floats", nested([value / 255 for value in RGB], HEIGHT, WIDTH, 3), "RGB")
    black_and_white = [value > 100 for value in GRAY]
    live.image(
        "lists/bool", nested(black_and_white, HEIGHT, WIDTH), "L", bytes(255 * v for v in black_and_white)
    )
    floats = memoryview(struct.pack(f"{len(RGB)}f", *RGB)).cast("B").cast("f", [HEIGHT, WIDTH, 3])
    live.image("buffer", floats, "RGB")
    live.image("option/range", nested([v * 10 - 500 for v in GRAY], HEIGHT, WIDTH), "L", range=(-500, 2050))
    live.image("option/normalize", nested(list(GRAY), HEIGHT, WIDTH), "L", normalize=False)
    ones = nested([v / 255 for v in RGB], HEIGHT, WIDTH, 3)
    live.image("option/normalized", ones, "RGB", normalize=True)
    live.image("option/format", nested(list(channels_first(RGB, 3)), 3, HEIGHT, WIDTH), "RGB", format="CHW")
    live.image(
        "option/mode", nested(list(GRAY), HEIGHT, WIDTH), "RGB", bytes(v for g in GRAY for v in (g, g, g)),
        mode="RGB",
    )  # fmt: skip
    live.image("../odd key\n/" + "k" * 300, nested(list(GRAY), HEIGHT, WIDTH), "L")

    live.file("file/bytes", png(), png())
    live.file("file/read", io.BytesIO(png()), png())
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "named.jpg")
        with open(path, "wb") as file:
            file.write(png())
        live.file("file/path", path, png(), file_type="jpg", mode="L")
        live.run.log(
            {"mask/file": safelight.Image(png(), masks={"gt": {"path": path, "class_labels": {1: "car"}}})},
            step=0,
        )
    live.expect(
        "mask/file", None, None, sha256=hashlib.sha256(png()).hexdigest(),
        masks={"gt": mask(None, {"1": "car"}, png())},
    )  # fmt: skip

    gray = nested(list(GRAY), HEIGHT, WIDTH)
    first = safelight.Image(gray, caption="première ⚠", grouping=2, classes=[{"id": 1, "name": "car"}])
    live.run.log({"several": [first, safelight.Image(first, caption="second")], "loss": 0.5}, step=3)
    for caption in ("première ⚠", "second"):
        live.expect("several", "L", GRAY, 3, caption=caption, grouping=2, classes=[{"id": 1, "name": "car"}])
    live.run.log({"outer": {"inner": safelight.Image(gray)}}, step=4)
    live.expect("outer/inner", "L", GRAY, 4)

    batch = nested(list(RGB + RGB[::-1]), 2, HEIGHT, WIDTH, 3)
    live.run.log({"batch": safelight.Image(batch, caption=["a", None], format="NHWC")}, step=0)
    live.expect("batch", "RGB", RGB, caption="a")
    live.expect("batch", "RGB", RGB[::-1])

    box = {
        "position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75},
        "class_id": 1,
        "box_caption": "car 0.91",
        "scores": {"conf": 0.91},
    }
    middle = {"position": {"middle": [2, 1], "width": 1, "height": 1}, "domain": "pixel", "class_id": 7}
    boxes = {"pred": {"box_data": [box, middle], "class_labels": {1: "car", 7: "bus"}}}
    masks = {"gt": {"mask_data": nested(list(IDS), HEIGHT, WIDTH), "class_labels": {0: "road", 200: "sky"}}}
    live.run.log({"annotated": safelight.Image(gray, boxes=boxes, masks=masks)}, step=0)
    live.expect(
        "annotated", "L", GRAY,
        boxes=json.loads(json.dumps(boxes)),
        masks={"gt": mask(labels={"0": "road", "200": "sky"})},
    )  # fmt: skip


def write_numpy(live: Live, np: Any) -> None:
    for mode, (n_channels, pixels) in CHANNELS.items():
        array = np.frombuffer(pixels, np.uint8).reshape(HEIGHT, WIDTH, n_channels)
        live.image(f"numpy/{mode}", array, mode)
    rgb = np.frombuffer(RGB, np.uint8).reshape(HEIGHT, WIDTH, 3)
    for dtype in [
        "u2",
        "u4",
        "u8",
        "i2",
        "i4",
        "i8",
        ">u2",
        ">i4",
        "f2",
        "f4",
        "f8",
        ">f4",
        ">f8",
        "c8",
        "c16",
    ]:
        live.image(f"numpy/{dtype}", rgb.astype(dtype), "RGB")
    for dtype in ["f2", "f4", "f8", ">f4"]:
        live.image(f"numpy/unit {dtype}", rgb.astype(dtype) / np.dtype(dtype).type(255), "RGB")
    live.image("numpy/i1", (rgb // 2).astype("i1"), "RGB", bytes(v // 2 for v in RGB))
    live.image("numpy/bool", rgb > 100, "RGB", bytes(255 * (v > 100) for v in RGB))
    live.image("numpy/fortran", np.asfortranarray(rgb), "RGB")
    live.image("numpy/upside down", rgb[::-1], "RGB", rgb[::-1].tobytes())
    live.image("numpy/every other", np.repeat(rgb, 2, axis=1)[:, ::2], "RGB")
    live.image("numpy/channels first", rgb.transpose(2, 0, 1), "RGB", format="CHW")
    live.image("numpy/one row", rgb.reshape(1, -1, 3)[:, :WIDTH], "RGB", RGB[: 3 * WIDTH], format="HWC")

    box = {"position": {"middle": np.array([0.5, 0.5]), "width": np.float32(0.25), "height": np.float64(1)}}
    box["class_id"] = np.int64(1)
    ids = np.frombuffer(IDS, np.uint8).reshape(HEIGHT, WIDTH).astype(np.int64)
    image = safelight.Image(
        rgb,
        caption=np.float32(0.5),
        boxes={"pred": {"box_data": [box], "class_labels": {np.int64(1): "car"}}},
        masks={"gt": {"mask_data": ids}},
    )
    live.run.log({"numpy/annotated": image}, step=np.int64(5))
    plain = {"position": {"middle": [0.5, 0.5], "width": 0.25, "height": 1.0}, "class_id": 1}
    live.expect(
        "numpy/annotated", "RGB", RGB, 5, caption=0.5,
        boxes={"pred": {"box_data": [plain], "class_labels": {"1": "car"}}}, masks={"gt": mask()},
    )  # fmt: skip


# Numbers that 8-bit floats can represent. Some are greater than 1, so none is scaled.
FLOAT8 = [0, 2, 4, 8, 16, 32, 64, 128, 192, 224, 24, 48]


def write_ml_dtypes(live: Live, ml_dtypes: Any) -> None:
    import numpy as np

    numbers = np.array(FLOAT8, np.float32).reshape(HEIGHT, WIDTH)
    for name in ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]:
        live.image(f"ml_dtypes/{name}", numbers.astype(getattr(ml_dtypes, name)), "L", bytes(FLOAT8))


def write_torch(live: Live, torch: Any) -> None:
    for mode, (n_channels, pixels) in CHANNELS.items():
        tensor = torch.tensor(list(channels_first(pixels, n_channels)), dtype=torch.uint8)
        live.image(f"torch/{mode}", tensor.reshape(n_channels, HEIGHT, WIDTH), mode)
    rgb = torch.tensor(list(channels_first(RGB, 3))).reshape(3, HEIGHT, WIDTH)
    for name in ["int16", "int32", "int64", "float16", "float32", "float64"]:
        live.image(f"torch/{name}", rgb.to(getattr(torch, name)), "RGB")
    small = torch.tensor(FLOAT8, dtype=torch.float32).reshape(HEIGHT, WIDTH)
    for name in ["bfloat16", "float8_e4m3fn", "float8_e5m2"]:
        if hasattr(torch, name):
            live.image(f"torch/{name}", small.to(getattr(torch, name)), "L", bytes(FLOAT8))
    live.image("torch/gradient", (rgb / 255).requires_grad_(), "RGB")
    live.image("torch/parameter", torch.nn.Parameter(rgb / 255), "RGB")
    live.image("torch/strided", rgb.permute(2, 1, 0).contiguous().permute(2, 1, 0), "RGB")
    live.image("torch/channels last", rgb.permute(1, 2, 0), "RGB", format="HWC")
    live.run.log({"torch/batch": safelight.Image(torch.stack([rgb, rgb.flip(0)]))}, step=0)
    live.expect("torch/batch", "RGB", RGB)
    swapped = bytes(v for at in range(0, len(RGB), 3) for v in RGB[at : at + 3][::-1])
    live.expect("torch/batch", "RGB", swapped)
    ids = torch.tensor(list(IDS)).reshape(HEIGHT, WIDTH)
    image = safelight.Image(rgb, masks={"gt": {"mask_data": ids}})
    live.run.log({"torch/mask": image}, step=0)
    live.expect("torch/mask", "RGB", RGB, masks={"gt": mask()})


def write_pillow(live: Live, pillow: Any) -> None:
    for mode, (_, pixels) in CHANNELS.items():
        live.image(f"pillow/{mode}", pillow.frombytes(mode, (WIDTH, HEIGHT), pixels), mode)
    rgb = pillow.frombytes("RGB", (WIDTH, HEIGHT), RGB)
    dark = bytes(v % 2 for v in RGB)
    live.image("pillow/dark", pillow.frombytes("RGB", (WIDTH, HEIGHT), dark), "RGB", dark)
    live.image("pillow/to gray", rgb, "L", rgb.convert("L").tobytes(), mode="L")
    live.image("pillow/CMYK", rgb.convert("CMYK"), "RGB", rgb.convert("CMYK").convert("RGB").tobytes())
    for mode in ("1", "P"):
        live.file(f"pillow/{mode}", rgb.convert(mode))
    live.file("pillow/I;16", pillow.frombytes("I;16", (WIDTH, HEIGHT), LA))
    ids = pillow.frombytes("P", (WIDTH, HEIGHT), IDS)
    live.run.log({"pillow/mask": safelight.Image(rgb, masks={"gt": {"mask_data": ids}})}, step=0)
    live.expect("pillow/mask", "RGB", RGB, masks={"gt": mask()})


def write_matplotlib(live: Live, matplotlib: Any) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(1, 1))
    axes.plot([0, 1])
    live.file("matplotlib/figure", figure)
    live.file("matplotlib/axes", axes)
    live.file("matplotlib/pyplot", plt)
    live.file("matplotlib/subfigure", plt.figure(figsize=(1, 1)).subfigures(1, 2)[1].subplots())


def write_jax(live: Live, jax: Any) -> None:
    rgb = jax.numpy.asarray(list(RGB), dtype="uint8").reshape(HEIGHT, WIDTH, 3)
    live.image("jax/uint8", rgb, "RGB")
    live.image("jax/float32", rgb / 255, "RGB")
    numbers = jax.numpy.asarray(FLOAT8, dtype="bfloat16").reshape(HEIGHT, WIDTH)
    live.image("jax/bfloat16", numbers, "L", bytes(FLOAT8))


GROUPS = {
    "numpy": write_numpy,
    "ml_dtypes": write_ml_dtypes,
    "torch": write_torch,
    "PIL.Image": write_pillow,
    "matplotlib": write_matplotlib,
    "jax": write_jax,
}


def installed(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def write(directory: str) -> list[dict[str, Any]]:
    """Writes the run. Returns the expected images: these and no others."""
    live = Live(directory)
    write_plain(live)
    for name, write_group in GROUPS.items():
        library = installed(name)
        print(f"{name}: {'written' if library else 'not installed'}", file=sys.stderr)
        if library:
            write_group(live, library)
    live.run.finish()
    return live.expected


if __name__ == "__main__":
    if len(sys.argv) != 2 or os.path.exists(sys.argv[1]):
        sys.exit(f"usage: {sys.argv[0]} RUN_DIR, which must not exist yet")
    print(json.dumps(write(sys.argv[1]), indent=1))
