"""Tests of the adapters for trainers, each with its real library, up to the pictures.

    SAFELIGHT_PROGRAM=target/debug/safelight python python/tests/adapters/trainers.py [Accelerate …]

`writers.py` beside it has the others.
"""

from __future__ import annotations

import importlib
import pickle
import unittest
from typing import Any

from adapter_case import Case

import safelight


class PytorchLightning(Case):
    """`SafelightLogger` in a real `Trainer`."""

    package = "pytorch_lightning"

    def setUp(self) -> None:
        super().setUp()
        import torch

        self.lightning = importlib.import_module(self.package)
        from safelight.lightning import SafelightLogger

        self.torch, self.Logger = torch, SafelightLogger

    def model(self, picture: Any) -> Any:
        torch, lightning = self.torch, self.lightning

        class Model(lightning.LightningModule):  # type: ignore
            def __init__(self, lr: float, layers: list[int]) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.layer = torch.nn.Linear(4, 1)

            def training_step(self, batch: Any, index: int) -> Any:
                loss = self.layer(batch).square().mean()
                self.log("loss", loss)
                self.logger.log_image("train/pred", [picture], step=self.global_step)
                return loss

            def validation_step(self, batch: Any, index: int) -> None:
                self.logger.log_image("val/pred", [picture, picture.flip(2)], caption=["a", "b"])

            def test_step(self, batch: Any, index: int) -> None:
                self.logger.log_metrics({"test/pred": safelight.Image(picture), "accuracy": 0.5}, step=100)
                self.logger.log_image("test/next", [picture])
                self.logger.log_image("test/at", [picture.permute(1, 2, 0).numpy()], step=7, format=["HWC"])

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), 0.01)

        return Model(lr=0.01, layers=[4, 1])

    def test_a_trainer_logs_images_of_each_stage(self) -> None:
        torch = self.torch
        picture = torch.from_numpy(self.bytes_of(3, 6, 9))
        model = self.model(picture)
        run = self.folder / "run"
        logger = self.Logger(run, project="digits", strict=True)
        self.assertIsInstance(logger, self.lightning.loggers.Logger)
        trainer = self.lightning.Trainer(
            logger=logger, max_epochs=2, log_every_n_steps=1, accelerator="cpu", num_sanity_val_steps=2,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        data = torch.utils.data.DataLoader(torch.rand(12, 4), batch_size=4)
        trainer.fit(model, data, data)
        trainer.test(model, data, verbose=False)
        logger.experiment.finish()
        items = self.items(run)
        # Three batches an epoch, and three in each validation. Their step is the last one of the training.
        steps = [("train/pred", step, 0) for step in range(6)]
        steps += [("val/pred", step, i) for step, n in [(0, 4), (2, 6), (5, 6)] for i in range(n)]
        tests = [
            (key, step, i)
            for key, step in [("test/at", 7), ("test/next", 100), ("test/pred", 100)]
            for i in range(3)
        ]
        self.assertEqual(self.places(items), tests + steps)
        for item in items:
            is_flipped = item["caption"] == "b"
            want = picture.flip(2) if is_flipped else picture
            self.assert_pixels(item["pixels"], want.permute(1, 2, 0).numpy())
        self.assertEqual([item["caption"] for item in items[-4:]], ["a", "b", "a", "b"])
        identity = self.identity(run)
        self.assertEqual(
            (identity["project"], identity["config"]), ("digits", {"lr": 0.01, "layers": [4, 1]})
        )
        self.assertTrue((run / "checkpoints").is_dir())

    def test_bad_arguments_are_reported_and_never_raised(self) -> None:
        logger = self.Logger(self.folder / "run")
        logger.log_image("array", self.bytes_of(2, 6, 9))
        logger.log_image("lengths", [self.bytes_of(6, 9)] * 2, caption=["one"])
        logger.log_image("good", [self.bytes_of(6, 9)], caption=["one"])
        self.assertEqual(self.places(self.items(self.folder / "run")), [("good", 0, 0)])
        self.assertEqual(len(self.warnings), 2, self.warnings)
        self.assertIn("got 1 values of caption, want 2", self.warnings[1])

    def test_other_ranks_log_nothing(self) -> None:
        logger = self.Logger(self.folder / "run")
        only = importlib.import_module(f"{self.package}.utilities").rank_zero_only
        rank, only.rank = only.rank, 1
        try:
            logger.log_image("k", [self.bytes_of(6, 9)])
            logger.log_metrics({"k": safelight.Image(self.bytes_of(6, 9))}, 1)
            logger.log_hyperparams({"lr": 1})
            logger.experiment.log({"k": safelight.Image(self.bytes_of(6, 9))})
        finally:
            only.rank = rank
        self.assertFalse((self.folder / "run").exists())

    def test_a_logger_can_be_sent_to_another_process(self) -> None:
        for logger in (self.Logger(self.folder / "run"), self.Logger(self.folder / "run")):
            logger.log_image("k", [self.bytes_of(6, 9)], step=3)
            copy = pickle.loads(pickle.dumps(logger))
            copy.log_image("k", [self.bytes_of(6, 9)])
        self.assertEqual(self.places(self.items(self.folder / "run")), [("k", 3, i) for i in range(4)])


class Lightning(PytorchLightning):
    """The same with the package under its other name."""

    package = "lightning.pytorch"


class Accelerate(Case):
    """`SafelightTracker` in a real `Accelerator`."""

    def accelerator(self, **options: Any) -> Any:
        from accelerate import Accelerator

        import safelight.accelerate  # noqa: F401

        return Accelerator(cpu=True, project_dir=str(self.folder), **options)

    def test_a_training_logs_images_and_its_configuration(self) -> None:
        import torch
        from PIL import Image

        accelerator = self.accelerator(log_with="safelight")
        accelerator.init_trackers("digits", config={"lr": 0.01}, init_kwargs={"safelight": {"tags": ["a"]}})
        model = torch.nn.Linear(4, 1)
        model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.01))
        picture = self.bytes_of(6, 9, 3)
        for step in range(3):
            loss = model(torch.rand(2, 4)).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            accelerator.log({"loss": loss.item(), "val": safelight.Image(picture, caption=step)}, step=step)
        tracker = accelerator.get_tracker("safelight")
        tracker.log_images({"list": [picture, Image.fromarray(picture)], "batch": picture[None]}, step=7)
        tracker.log_images({"first": torch.from_numpy(picture)[None]}, step=7, format="NHWC", caption=["x"])
        accelerator.end_training()
        items = self.items(self.folder / "digits")
        want = [("batch", 7, 0), ("first", 7, 0), ("list", 7, 0), ("list", 7, 1)]
        self.assertEqual(self.places(items), want + [("val", step, 0) for step in range(3)])
        for item in items:
            self.assert_pixels(item["pixels"], picture)
        identity = self.identity(self.folder / "digits")
        self.assertEqual(
            (identity["project"], identity["config"], identity["tags"]), ("digits", {"lr": 0.01}, ["a"])
        )
        self.assertEqual(self.warnings, [])

    def test_a_tracker_may_be_given_instead_of_its_name(self) -> None:
        from safelight.accelerate import SafelightTracker

        accelerator = self.accelerator(log_with=SafelightTracker("digits", dir=self.folder / "seven"))
        accelerator.init_trackers("ignored")
        accelerator.log({"k": safelight.Image(self.bytes_of(6, 9))})
        accelerator.end_training()
        self.assertEqual(self.places(self.items(self.folder / "seven")), [("k", 0, 0)])


class Mmengine(Case):
    """`SafelightVisBackend` in a real `Visualizer` that a configuration builds."""

    def test_a_visualizer_logs_what_it_drew(self) -> None:
        from mmengine.config import Config
        from mmengine.registry import VISUALIZERS

        run = self.folder / "run"
        config = Config(
            {
                "custom_imports": {"imports": ["safelight.mmengine"]},
                "visualizer": {
                    "type": "Visualizer",
                    "name": "digits",
                    "vis_backends": [{"type": "SafelightVisBackend", "dir": str(run), "project": "digits"}],
                },
                "lr": 0.01,
            }
        )
        importlib.import_module(config.custom_imports.imports[0])
        visualizer = VISUALIZERS.build(config.visualizer)
        visualizer.add_config(config)
        picture = self.bytes_of(40, 60, 3)
        visualizer.add_image("val", picture, step=1)
        visualizer.add_image("val/mask", picture[..., 0], step=1)
        visualizer.add_scalar("loss", 0.5, step=1)
        visualizer.set_image(picture)
        visualizer.draw_bboxes(self.np.array([[5, 5, 30, 20]]))
        drawn = visualizer.get_image()
        visualizer.add_image("drawn", drawn, step=2)
        visualizer.close()
        visualizer.add_image("val", picture, step=3)
        visualizer.close()
        items = self.items(run)
        self.assertEqual(
            self.places(items), [("drawn", 2, 0), ("val", 1, 0), ("val", 3, 0), ("val/mask", 1, 0)]
        )
        for item, want in zip(items, [drawn, picture, picture, self.np.stack([picture[..., 0]] * 3, axis=2)]):
            self.assert_pixels(item["pixels"], want)
        self.assertEqual(
            (self.identity(run)["project"], self.identity(run)["config"]["lr"]), ("digits", 0.01)
        )
        self.assertEqual(self.warnings, [])

    def test_the_visualizers_folder_is_the_default(self) -> None:
        from mmengine.visualization import Visualizer

        import safelight.mmengine  # noqa: F401

        visualizer = Visualizer(vis_backends=[{"type": "SafelightVisBackend"}], save_dir=str(self.folder))
        visualizer.add_image("k", self.bytes_of(6, 9, 3))
        visualizer.add_image("list", [[1, 2]])
        visualizer.add_image("batch", self.bytes_of(2, 6, 9, 3))
        self.assertEqual(self.places(self.items(self.folder / "vis_data")), [("k", 0, 0)])
        self.assertEqual(len(self.warnings), 2, self.warnings)
        self.assertIn("got 4 axes, want HW or HWC", self.warnings[1])


if __name__ == "__main__":
    unittest.main()
