"""Tests of the adapters for writers of events and metrics, each with its real library, up to the pictures.

    SAFELIGHT_PROGRAM=target/debug/safelight python python/tests/adapters/writers.py [Torch …]

Runs the classes that are named, else all. A class whose library is missing fails. `./test.sh adapters` runs
each class in a process of its own, because torch, TensorFlow and JAX need not live together in one.
"""

from __future__ import annotations

import io
import json
import pathlib
import struct
import unittest
from typing import Any

from adapter_case import Case


class TensorboardX(Case):
    """`Pictures` before the `SummaryWriter` of tensorboardX, compared with that writer alone."""

    # tensorboardX lets values over 1 wrap around. Safelight clips them, as torch's writer does.
    high = 1.0

    def setUp(self) -> None:
        super().setUp()
        from safelight.tensorboard import Pictures

        self.plain, self.event = self.library()
        self.Writer: Any = type("Writer", (Pictures, self.plain), {})
        self.run_dir = self.folder / "run"

    def library(self) -> tuple[Any, Any]:
        """The class of the writer, and that of its events."""
        from tensorboardX import SummaryWriter
        from tensorboardX.proto.event_pb2 import Event

        return SummaryWriter, Event

    def tensor(self, array: Any) -> Any:
        return array

    def events(self, folder: pathlib.Path) -> tuple[dict[tuple[str, int], Any], dict[tuple[str, int], float]]:
        """The pictures and the scalars in the event files of a folder, by tag and step.

        A record is: length (8 bytes), CRC (4), an `Event`, CRC (4).
        """
        pictures, scalars = {}, {}
        for path in folder.glob("events.*"):
            content = path.read_bytes()
            while content:
                (length,) = struct.unpack("<Q", content[:8])
                event = self.event.FromString(content[12 : 12 + length])
                content = content[16 + length :]
                for value in event.summary.value:
                    if value.HasField("image"):
                        file = io.BytesIO(value.image.encoded_image_string)
                        pictures[value.tag, event.step] = self.opened(file)
                    else:
                        scalars[value.tag, event.step] = value.simple_value
        return pictures, scalars

    def write(self, writer: Any) -> None:
        """What a training writes."""
        t = self.tensor
        for step in (0, 10):
            writer.add_scalar("loss", 0.5, step)
            writer.add_image("chw", t(self.floats_of(3, 6, 9) * self.high), step)
            writer.add_image("hwc", t(self.bytes_of(6, 9, 3)), global_step=step, dataformats="HWC")
            writer.add_image("gray/hw", t(self.bytes_of(6, 9)), step, dataformats="hw")
            writer.add_image("gray/wh", t(self.floats_of(9, 6)), step, None, "WH")
            writer.add_image("gray/1hw", t(self.floats_of(1, 6, 9)), step)
            writer.add_image("cwh", t(self.bytes_of(3, 9, 6)), step, dataformats="CWH")
            writer.add_image("rgba", t(self.bytes_of(4, 6, 9)), step)
            writer.add_image("bool", t(self.floats_of(3, 6, 9) > 0.5), step)
            writer.add_image("int64", t((self.floats_of(3, 6, 9) > 0.5).astype("i8")), step)
            writer.add_image("int32", t((self.floats_of(6, 9) > 0.5).astype("i4")), step, dataformats="HW")
            writer.add_images("batch/row", t(self.bytes_of(5, 3, 6, 9)), step)
            writer.add_images("batch/rows", t(self.floats_of(19, 6, 9, 3)), step, dataformats="NHWC")
            writer.add_images("batch/one", t(self.floats_of(1, 1, 6, 9)), step)

    def test_pictures_are_those_of_the_writer(self) -> None:
        for writer, name in ((self.plain, "plain"), (self.Writer, "run")):
            self.random = self.np.random.default_rng(1)
            with writer(str(self.folder / name)) as writer:
                self.write(writer)
        want, scalars = self.events(self.folder / "plain")
        self.assertGreaterEqual(len(want), 26)
        # All but the pictures stays in the event files.
        self.assertEqual(self.events(self.run_dir), ({}, scalars))
        items = self.items(self.run_dir)
        self.assertEqual(self.places(items), [(tag, step, 0) for tag, step in sorted(want)])
        for item in items:
            with self.subTest(item["key"]):
                # The writer truncates where Safelight rounds.
                self.assert_pixels(item["pixels"], want[item["key"], item["step"]], within=1)
        self.assertEqual(self.warnings, [])

    def test_a_subclass_takes_defaults_back(self) -> None:
        batch = self.floats_of(3, 1, 6, 9) * 2 - 1
        self.Writer.safelight_parameters = {"grid": None, "range": None}
        self.Writer.safelight_options = {"project": "digits", "background": True}
        with self.Writer(str(self.run_dir)) as writer:
            writer.add_images("k", self.tensor(batch))
            writer.add_images("l", self.tensor(batch))
        items = self.items(self.run_dir)
        self.assertEqual(self.identity(self.run_dir), {"project": "digits"})
        # Without a step, each call has the next one.
        self.assertEqual(
            self.places(items), [("k", 0, i) for i in range(3)] + [("l", 1, i) for i in range(3)]
        )
        for item, values in zip(items, [*batch, *batch]):
            # Values in [-1, 1] are shifted.
            gray = (values[0] + 1) * 127.5
            self.assert_pixels(item["pixels"], self.np.stack([gray] * 3, axis=2), within=1)

    def test_boxes_are_kept_beside_the_picture(self) -> None:
        picture = self.bytes_of(3, 40, 60)
        corners = self.tensor(self.np.array([[1, 2, 30, 20], [5, 6, 50, 30.5]], "f4"))
        with self.Writer(str(self.run_dir)) as writer:
            writer.add_image_with_boxes("k", self.tensor(picture), corners, 3, labels=["dog", "cat"])
            writer.add_image_with_boxes("k", self.tensor(picture), corners, 4, rescale=2)
        items = self.items(self.run_dir)
        self.assertEqual(self.places(items), [("k", 3, 0), ("k", 4, 0)])
        found = []
        for item in items:
            self.assert_pixels(item["pixels"], picture.transpose(1, 2, 0))
            path = self.folder / "store of run" / item["boxes"]["boxes"]["path"]
            found.append(json.loads(path.read_text()))
        self.assertEqual(found[0]["class_labels"], {"0": "cat", "1": "dog"})
        self.assertEqual([box["box_caption"] for box in found[0]["box_data"]], ["dog", "cat"])
        position = {"minX": 5, "minY": 6, "maxX": 50, "maxY": 30.5}
        self.assertEqual(found[0]["box_data"][1]["position"], position)
        self.assertEqual(found[0]["box_data"][1]["domain"], "pixel")
        self.assertEqual(found[1]["class_labels"], {"0": "box"})

    def test_what_cannot_be_logged_is_reported_and_never_raised(self) -> None:
        t = self.tensor
        with self.Writer(str(self.run_dir)) as writer:
            writer.add_image("axes", t(self.bytes_of(3, 6, 9)), 0, dataformats="CHX")
            writer.add_image("lengths", t(self.bytes_of(3, 6, 9)), 0, dataformats="WH")
            writer.add_images("lists", [t(self.bytes_of(3, n, 9)) for n in (6, 7)], 0, dataformats="CHW")
            writer.add_image("none", None, 0)
            writer.add_image_with_boxes("boxes", t(self.bytes_of(3, 6, 9)), t(self.bytes_of(4)), 0)
            writer.add_image("good", t(self.bytes_of(3, 6, 9)), 0)
        self.assertEqual(self.places(self.items(self.run_dir)), [("good", 0, 0)])
        self.assertEqual(len(self.warnings), 5, self.warnings)
        self.assertIn("got axes 'CHX', want H and W", self.warnings[0])

    def test_a_list_is_a_batch(self) -> None:
        pictures = [self.bytes_of(3, 6, 9) for _ in range(2)]
        with self.Writer(str(self.run_dir)) as writer:
            writer.add_images("k", [self.tensor(picture) for picture in pictures], 0, dataformats="CHW")
        (item,) = self.items(self.run_dir)
        self.assert_pixels(item["pixels"], self.np.concatenate(pictures, axis=2).transpose(1, 2, 0))

    def test_a_writer_that_is_switched_off_writes_nothing(self) -> None:
        with self.Writer(str(self.run_dir), write_to_disk=False) as writer:
            writer.add_image("k", self.bytes_of(3, 6, 9), 0)
        self.assertFalse(self.run_dir.exists())


class Torch(TensorboardX):
    """The same with the `SummaryWriter` of torch, with tensors; and figures."""

    high = 1.5

    # torch's writer has no such switch.
    test_a_writer_that_is_switched_off_writes_nothing = None  # type: ignore[assignment]

    def library(self) -> tuple[Any, Any]:
        from tensorboard.compat.proto.event_pb2 import Event
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter, Event

    def tensor(self, array: Any) -> Any:
        import torch

        return torch.from_numpy(array)

    def write(self, writer: Any) -> None:
        import torch

        super().write(writer)
        writer.add_image("gradient", torch.nn.Parameter(self.tensor(self.floats_of(3, 6, 9))), 3)
        writer.add_image("bfloat16", self.tensor(self.floats_of(3, 6, 9)).bfloat16(), 3)
        writer.add_image("channels last", self.tensor(self.floats_of(6, 9, 3)).permute(2, 0, 1), 3)

    def test_figures_are_drawn_and_closed(self) -> None:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        def figure() -> Any:
            figure, axes = plt.subplots(figsize=(2, 1))
            axes.plot([1, 3, 2])
            return figure

        for writer, name in ((self.plain, "plain"), (self.Writer, "run")):
            with writer(str(self.folder / name)) as writer:
                writer.add_figure("one", figure(), 1)
                kept = figure()
                writer.add_figure("kept", kept, 1, close=False)
                self.assertEqual(plt.get_fignums(), [kept.number])
                plt.close(kept)
        want, _ = self.events(self.folder / "plain")
        with self.Writer(str(self.run_dir)) as writer:
            writer.add_figure("several", [figure(), figure()], 1)
        items = self.items(self.run_dir)
        self.assertEqual(
            self.places(items), [("kept", 1, 0), ("one", 1, 0), ("several", 1, 0), ("several", 1, 1)]
        )
        for item in items:
            self.assert_pixels(item["pixels"][..., :3], want["one", 1])


class Detectron2(Case):
    """`SafelightWriter` beside Detectron2's own writers."""

    def test_images_of_the_storage_are_logged_once(self) -> None:
        import torch
        from detectron2.utils.events import EventStorage, JSONWriter, TensorboardXWriter

        from safelight.detectron2 import SafelightWriter

        run = self.folder / "run"
        pictures = [torch.from_numpy(self.floats_of(3, 6, 9)), self.bytes_of(3, 6, 9)]
        writers = [
            SafelightWriter(run, project="coco"),
            JSONWriter(str(self.folder / "metrics.json")),
            TensorboardXWriter(str(self.folder / "events")),
        ]
        with EventStorage() as storage:
            for _ in range(3):
                storage.put_scalar("loss", 0.5)
                for name, picture in zip(("floats", "bytes"), pictures):
                    storage.put_image(name, picture)
                storage.step()
                if storage.iter != 2:
                    for writer in writers:
                        writer.write()
        for writer in writers:
            writer.close()
        items = self.items(run)
        self.assertEqual(
            self.places(items), [(name, step, 0) for name in ("bytes", "floats") for step in range(3)]
        )
        for item in items:
            want = pictures[1] if item["key"] == "bytes" else pictures[0].numpy() * 255
            self.assert_pixels(item["pixels"], want.transpose(1, 2, 0), within=1)
        self.assertEqual(self.warnings, [])
        self.assertEqual(len((self.folder / "metrics.json").read_text().splitlines()), 2)


class Clu(Case):
    """`SafelightWriter` beside CLU's own writers."""

    def test_images_and_hyperparameters_are_logged(self) -> None:
        import jax.numpy as jnp
        from clu import metric_writers, values

        from safelight.clu import SafelightWriter

        run = self.folder / "run"
        ours = SafelightWriter(run)
        writer = metric_writers.MultiWriter([metric_writers.LoggingWriter(), ours])
        batch, one = self.floats_of(3, 6, 9, 3), self.bytes_of(6, 9, 1)
        writer.write_hparams({"lr": 0.01})
        with metric_writers.ensure_flushes(writer):
            writer.write_scalars(5, {"loss": 0.5})
            writer.write_images(5, {"batch": jnp.asarray(batch), "one": one})
            metric_writers.write_values(
                writer, 6, {"loss": 0.5, "values": values.Image(jnp.asarray(batch, "bfloat16"))}
            )
            writer.write_images(7, {"wrong": self.bytes_of(6, 9)})
            ours.write_images(7, {"no array": [[1, 2]]})
        writer.close()
        items = self.items(run)
        places = [("batch", 5, i) for i in range(3)] + [("one", 5, 0)] + [("values", 6, i) for i in range(3)]
        self.assertEqual(self.places(items), places)
        for i, item in enumerate(items[:3] + items[4:]):
            # bfloat16 keeps 8 bits of each value.
            self.assert_pixels(item["pixels"], batch[i % 3] * 255, within=1 if item["key"] == "batch" else 2)
        self.assert_pixels(items[3]["pixels"], self.np.concatenate([one] * 3, axis=2))
        self.assertEqual(self.identity(run)["config"], {"lr": 0.01})
        self.assertEqual(len(self.warnings), 2, self.warnings)


if __name__ == "__main__":
    unittest.main()
