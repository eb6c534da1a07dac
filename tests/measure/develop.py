#!/usr/bin/env python3
"""The cost of a picture in Python: `safelight.develop`, the Pillow hook and `save_image` beside what they replace.

    develop.py [--rounds 60] [--only TEXT]

Needs the extension, built for release, numpy, pillow, opencv, ml_dtypes, tensorboardX; with wandb and torchvision their
rows, too. Each row runs its candidates in turn, so that noise of the machine meets all of them; the median and the
ratio to the first candidate are printed. Sizes are those of the files.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
import safelight
import safelight.pillow


def optional(name: str) -> Any:
    with contextlib.suppress(ImportError):
        return importlib.import_module(name)
    return None


cv2, ml_dtypes, torch, wandb = (optional(name) for name in ("cv2", "ml_dtypes", "torch", "wandb"))
tensorboardX, torchvision = optional("tensorboardX"), optional("torchvision.utils")


def photograph(side: int) -> np.ndarray:
    """Something like a photograph: smooth shapes, and the noise of a sensor. uint8, (side, side, 3)."""
    y, x = np.mgrid[:side, :side] / side
    rng = np.random.default_rng(0)
    planes = [128 + 70 * np.sin(7 * x + k) + 50 * np.cos(9 * y * (1 + k / 3)) for k in range(3)]
    return np.clip(np.stack(planes, 2) + rng.normal(0, 2.5, (side, side, 3)), 0, 255).astype("u1")


def by_pillow(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.uint8(values * 255) if values.dtype != np.uint8 else values).save(file, "PNG")
    return file.getvalue()


def by_opencv(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values[..., ::-1])[1].tobytes()


@contextlib.contextmanager
def hook(is_on: bool):
    if is_on:
        safelight.pillow.install()
    try:
        yield
    finally:
        safelight.pillow.uninstall()


ONLY = ""


def row(what: str, rounds: int, **candidates: Callable[[], Any]) -> None:
    if ONLY not in what:
        return
    times: dict[str, list[float]] = {name: [] for name in candidates}
    results = {name: call() for name, call in candidates.items()}
    for _ in range(rounds):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    first = statistics.median(next(iter(times.values())))
    cells = []
    for name, taken in times.items():
        median = statistics.median(taken)
        size = f", {len(results[name]):,} bytes" if isinstance(results[name], bytes) else ""
        cells.append(f"{name} {median * 1e3:.3f} ms (×{median / first:.1f}{size})")
    print(f"{what}: " + "; ".join(cells), flush=True)


def hooked(call: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    def run(is_on: bool) -> Callable[[], Any]:
        def once() -> Any:
            with hook(is_on):
                return call()

        return once

    return {"with hook": run(True), "Pillow": run(False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--only", default="", help="measure only rows whose name contains this")
    arguments = parser.parse_args()
    global ONLY
    rounds, ONLY = arguments.rounds, arguments.only
    photo = photograph(512)
    unit = photo.astype("f4") / 255
    digit = photograph(28)[..., 0]
    opencv = {"OpenCV": lambda: by_opencv(photo)} if cv2 else {}
    row("512×512×3 f32", rounds, develop=lambda: safelight.develop(unit).png, Pillow=lambda: by_pillow(unit), **opencv)
    row("512×512×3 u8", rounds, develop=lambda: safelight.develop(photo).png, Pillow=lambda: by_pillow(photo), **opencv)
    chw = np.ascontiguousarray(unit.transpose(2, 0, 1))
    row("3×512×512 f32", rounds, develop=lambda: safelight.develop(chw, format="CHW").png)
    if ml_dtypes:
        half = unit.astype(ml_dtypes.bfloat16)
        row("512×512×3 bf16", rounds, develop=lambda: safelight.develop(half).png)
    row("28×28 u8", rounds * 20, develop=lambda: safelight.develop(digit).png, Pillow=lambda: by_pillow(digit))
    picture = Image.fromarray(photo)

    def save() -> bytes:
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()

    row("Image.save, 512×512 RGB", rounds, **hooked(save))
    if tensorboardX:
        row("tensorboardX image", rounds, **hooked(lambda: len(str(tensorboardX.summary.image("k", chw)))))
    with tempfile.TemporaryDirectory() as folder:
        if wandb:
            os.environ["WANDB_SILENT"] = "true"
            run = wandb.init(mode="offline", dir=folder)
            row("wandb.Image + log", rounds, **hooked(lambda: run.log({"k": wandb.Image(photo)})))
            run.finish()
        if torchvision and torch:
            tensor, path = torch.from_numpy(chw), os.path.join(folder, "a.png")
            row(
                "save_image, 3×512×512 f32",
                rounds,
                safelight=lambda: safelight.save_image(tensor, path),
                **hooked(lambda: torchvision.save_image(tensor, path)),
            )


if __name__ == "__main__":
    main()
