"""Tests with NumPy, torch, Pillow, matplotlib and JAX, each skipped if its library is not installed."""

from __future__ import annotations

import io
import json
import os
import struct
import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

import live
from case import GRAY, Case, Npy, read_npy
from live import installed

from safelight import Image, Run, _dumps

numpy: Any = installed("numpy")
ml_dtypes: Any = installed("ml_dtypes")
torch: Any = installed("torch")
pillow: Any = installed("PIL.Image")
matplotlib: Any = installed("matplotlib")
jax: Any = installed("jax")


@unittest.skipUnless(numpy, "numpy is not installed")
class NumpyTest(Case):
    def check(self, values: Any) -> None:
        line = self.log(values)
        self.assertEqual(list(line), ["data"])
        loaded = numpy.load(self.path(line["data"]), allow_pickle=False)
        self.assertEqual((loaded.dtype, loaded.shape), (values.dtype, values.shape))
        self.assertEqual(loaded.tobytes(), values.tobytes())
        self.assertTrue(loaded.flags.c_contiguous)

    def test_types(self) -> None:
        values = numpy.arange(24).reshape(2, 4, 3)
        for dtype in "? u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 c8 c16 >u2 >i8 >f4 >c16".split():
            self.check(values.astype(dtype))

    def test_shapes_and_strides(self) -> None:
        values = numpy.arange(120, dtype="f4").reshape(2, 4, 5, 3)
        for view in [values[:0], values[0, 0, 0], values[0, 0, 0, 0], values[0, 0, 0, 0].reshape(())]:
            self.check_refused(view, ValueError, "a picture has 2 to 4 axes")
        for view in [
            values.transpose(0, 3, 1, 2),
            values[0, ::-1, ::2],
            values[..., 1],
            numpy.asfortranarray(values[0]),
            numpy.broadcast_to(values[0, 0], (4, 5, 3)),
        ]:
            self.check(view)

    def test_bytes_are_those_of_numpy(self) -> None:
        values = numpy.ones((3, 4), "f4")
        file = io.BytesIO()
        numpy.save(file, values)
        self.assertEqual(self.content(self.log(values)), file.getvalue())

    def test_a_copy_is_taken(self) -> None:
        values = numpy.zeros((2, 2), "u1")
        image = Image(values)
        values[:] = 9
        Run(self.dir, strict=True).log({"k": image})
        self.assertEqual(read_npy(self.path(self.lines()[0]["data"])).elements, b"\0" * 4)

    def test_types_that_make_no_picture(self) -> None:
        for values in (
            numpy.array(["a"]),
            numpy.array([None]),
            numpy.zeros(2, "M8[s]"),
            numpy.zeros(2, "i4,f4"),
        ):
            self.check_refused(values, TypeError, f"got elements of type {values.dtype}, want")
        if numpy.dtype("longdouble").itemsize > 8:
            self.check_refused(numpy.zeros((2, 2), "longdouble"), TypeError, "up to 64 bits")

    def test_objects_that_convert_to_an_array(self) -> None:
        values = numpy.arange(6, dtype="i2").reshape(2, 3)
        interface = SimpleNamespace(__array_interface__=values.__array_interface__)
        tensor = SimpleNamespace(numpy=lambda: values)
        on_gpu = SimpleNamespace(__cuda_array_interface__={}, get=lambda: values)
        array_like = type("ArrayLike", (), {"__array__": lambda *_, **__: values})()
        for data in (interface, tensor, on_gpu, array_like):
            self.assertEqual(self.npy(data), Npy("<i2", (2, 3), values.tobytes()))

    def test_scalars_in_options(self) -> None:
        place = {"middle": numpy.array([1, 2]), "width": numpy.float32(1), "height": 1}
        line = self.log(
            numpy.zeros((2, 2), "u1"),
            caption=numpy.str_("c"),
            grouping=numpy.int64(3),
            range=numpy.array([0, 0.5]),
            boxes={"p": {"box_data": numpy.array([{"position": place, "class_id": numpy.int32(1)}], object)}},
        )
        self.assertEqual((line["caption"], line["grouping"], line["range"]), ("c", 3, [0.0, 0.5]))
        plain = {"middle": [1, 2], "width": 1.0, "height": 1}
        self.assertEqual(line["boxes"], {"p": {"box_data": [{"position": plain, "class_id": 1}]}})
        run = Run(self.dir, strict=True)
        run.log({"k": Image(GRAY)}, step=numpy.int64(7))
        self.assertEqual(run._step, 7)

    def test_an_array_that_is_ours_is_not_copied(self) -> None:
        for dtype in ("u1", "f2", "c16", "?"):
            values = numpy.ones((3, 4, 2), dtype)
            dump = _dumps._dump_from_ndarray(values, is_ours=True)
            self.assertEqual(bytes(dump.parts[1]), values.tobytes())
            values[:] = 0
            self.assertEqual(bytes(dump.parts[1]), values.tobytes())
            turned = values.T.copy().T
            self.assertEqual(
                bytes(_dumps._dump_from_ndarray(turned, is_ours=True).parts[1]), turned.tobytes()
            )

    @unittest.skipUnless(ml_dtypes, "ml_dtypes is not installed")
    def test_types_that_numpy_cannot_name(self) -> None:
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
            values = numpy.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, name))
            data = self.log(values)["data"]
            self.assertTrue(data["path"].endswith(".bin"))
            self.assertEqual(self.content({"data": data.pop("path")}), values.tobytes())
            self.assertEqual(data, {"dtype": name, "shape": [2, 3], "byte_order": "little"})
            line = self.log(GRAY, masks={"m": {"mask_data": values}})
            self.assertEqual(line["masks"]["m"]["mask_data"]["dtype"], name)

    @unittest.skipUnless(ml_dtypes, "ml_dtypes is not installed")
    def test_types_of_half_a_byte_make_no_picture(self) -> None:
        self.check_refused(numpy.zeros((2, 2), ml_dtypes.int4), TypeError, "got elements of type int4")


@unittest.skipUnless(torch, "torch is not installed")
class TorchTest(Case):
    def test_formats(self) -> None:
        for shape, want in [
            ((4, 5), "HW"),
            ((3, 4, 5), "CHW"),
            ((1, 4, 5), "CHW"),
            ((2, 3, 4, 5), "NCHW"),
            ((40, 50, 3), None),
            ((16, 28, 28), None),
            ((2, 40, 50, 3), None),
        ]:
            self.assertEqual(self.log(torch.zeros(shape)).get("format"), want, shape)
        self.assertEqual(self.log(torch.zeros(3, 4, 5), format="HWC")["format"], "HWC")

    def test_types(self) -> None:
        values = torch.arange(24).reshape(2, 3, 4)
        for name, descr in [
            ("bool", "|b1"), ("uint8", "|u1"), ("int8", "|i1"), ("int16", "<i2"), ("int32", "<i4"),
            ("int64", "<i8"), ("float16", "<f2"), ("float32", "<f4"), ("float64", "<f8"),
            ("complex64", "<c8"),
        ]:  # fmt: skip
            tensor = values.to(getattr(torch, name))
            got = read_npy(self.path(self.log(tensor)["data"]))
            self.assertEqual(got, Npy(descr, (2, 3, 4), tensor.numpy().tobytes()))

    def test_types_that_numpy_cannot_name(self) -> None:
        values = torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1)
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
            if not hasattr(torch, name):
                continue
            tensor = values.to(torch.float32).to(getattr(torch, name))
            line = self.log(tensor)
            content = self.content({"data": line["data"].pop("path")})
            self.assertEqual(line["data"], {"dtype": name, "shape": [4, 2, 3], "byte_order": "little"})
            self.assertEqual(line["format"], "CHW")
            size = tensor.element_size()
            bits = torch.frombuffer(bytearray(content), dtype=torch.uint8 if size == 1 else torch.int16)
            self.assertTrue(torch.equal(bits.view(tensor.dtype).reshape(4, 2, 3).float(), tensor.float()))

    def test_gradients_strides_and_copies(self) -> None:
        tensor = torch.arange(24.0).reshape(2, 3, 4).requires_grad_()
        image = Image((tensor * 1).permute(2, 0, 1))
        parameter = Image(torch.nn.Parameter(tensor.detach()))
        bfloat = torch.zeros(2, 2, dtype=torch.bfloat16)
        snapshot = Image(bfloat)
        with torch.no_grad():
            want = tensor.permute(2, 0, 1).contiguous().numpy().tobytes()
            tensor.fill_(9)
            bfloat.fill_(9)
        Run(self.dir, strict=True).log({"a": image, "b": parameter, "c": snapshot})
        line, _, last = self.lines()
        self.assertEqual(read_npy(self.path(line["data"])), Npy("<f4", (4, 2, 3), want))
        self.assertEqual(self.content({"data": last["data"]["path"]}), bytes(8))

    def test_views_that_are_conjugated_or_negated(self) -> None:
        values = torch.tensor([[1 + 2j, 3 - 4j]], dtype=torch.complex64)
        for view in (values.conj(), values.conj().imag, torch._neg_view(values.real)):
            got = read_npy(self.path(self.log(view)["data"]))
            self.assertEqual(got.elements, view.clone().resolve_conj().resolve_neg().numpy().tobytes())

    def test_options_and_masks(self) -> None:
        place = {"middle": torch.tensor([1.0, 2.0]), "width": torch.tensor(1), "height": 1}
        line = self.log(
            torch.zeros(3, 2, 2),
            grouping=torch.tensor(3),
            boxes={"p": {"box_data": [{"position": place}]}},
            masks={"m": {"mask_data": torch.ones(2, 2, dtype=torch.int64)}},
        )
        self.assertEqual(line["grouping"], 3)
        self.assertEqual(line["boxes"]["p"]["box_data"][0]["position"]["middle"], [1.0, 2.0])
        self.assertEqual(read_npy(self.path(line["masks"]["m"]["mask_data"])).shape, (2, 2))

    def test_tensors_without_values(self) -> None:
        self.check_refused(torch.zeros(2, 2, device="meta"), NotImplementedError, "")


@unittest.skipUnless(pillow, "Pillow is not installed")
class PillowTest(Case):
    def test_pixels_are_kept(self) -> None:
        for mode, (n_channels, pixels) in live.CHANNELS.items():
            line = self.log(pillow.frombytes(mode, (live.WIDTH, live.HEIGHT), pixels))
            want = Npy("|u1", (live.HEIGHT, live.WIDTH, n_channels), pixels)
            self.assertEqual(read_npy(self.path(line.pop("data"))), want)
            self.assertEqual(line, {"format": "HWC", "range": [0, 255]})

    def test_a_mode_converts(self) -> None:
        image = pillow.frombytes("RGB", (live.WIDTH, live.HEIGHT), live.RGB)
        line = self.log(image, mode="L")
        self.assertEqual(read_npy(self.path(line["data"])).elements, image.convert("L").tobytes())
        self.assertNotIn("mode", line)

    def test_modes_that_only_a_file_holds(self) -> None:
        rgb = pillow.frombytes("RGB", (live.WIDTH, live.HEIGHT), live.RGB)
        for image in [rgb.convert("1"), rgb.convert("P"), pillow.frombytes("I;16", (4, 3), live.LA)]:
            line = self.log(image)
            self.assertEqual(list(line), ["data"])
            with pillow.open(self.path(line["data"])) as kept:
                self.assertEqual(kept.convert("RGB").tobytes(), image.convert("RGB").tobytes(), image.mode)
                self.assertEqual(kept.mode, image.mode)

    def test_whole_numbers_become_16_bits(self) -> None:
        image = pillow.new("I", (4, 3), 40000)
        with pillow.open(self.path(self.log(image)["data"])) as kept:
            self.assertEqual(kept.getpixel((0, 0)), 40000)

    def test_modes_that_png_does_not_have(self) -> None:
        rgb = pillow.frombytes("RGB", (live.WIDTH, live.HEIGHT), live.RGB)
        for mode, become in [
            ("CMYK", "RGB"),
            ("YCbCr", "RGB"),
            ("HSV", "RGB"),
            ("PA", "RGBA"),
            ("RGBX", "RGB"),
        ]:
            image = rgb.convert("P").convert("PA") if mode == "PA" else rgb.convert(mode)
            got = read_npy(self.path(self.log(image)["data"]))
            self.assertEqual((got.shape[2], got.elements), (len(become), image.convert(become).tobytes()))
        got = read_npy(self.path(self.log(pillow.new("F", (4, 3), 0.5))["data"]))
        self.assertEqual(got, Npy("<f4", (3, 4), struct.pack("<f", 0.5) * 12))

    def test_masks_are_indices(self) -> None:
        for mode, descr, n_bytes in [("L", "|u1", 1), ("P", "|u1", 1), ("I;16", "<u2", 2), ("I", "<i4", 4)]:
            ids = pillow.new(mode, (4, 3), 7)
            line = self.log(GRAY, masks={"m": {"mask_data": ids}})
            got = read_npy(self.path(line["masks"]["m"]["mask_data"]))
            self.assertEqual(got, Npy(descr, (3, 4), (b"\7" + bytes(n_bytes - 1)) * 12))

    def test_masks_of_black_and_white_are_0_and_1(self) -> None:
        ids = pillow.new("1", (11, 3))
        ids.putpixel((9, 1), 1)
        line = self.log(GRAY, masks={"m": {"mask_data": ids}})
        want = bytes(11) + bytes(9) + b"\1" + bytes(1) + bytes(11)
        self.assertEqual(read_npy(self.path(line["masks"]["m"]["mask_data"])), Npy("|u1", (3, 11), want))
        rgb = pillow.frombytes("RGB", (live.WIDTH, live.HEIGHT), live.RGB)
        indexed = rgb.convert("P")
        line = self.log(GRAY, masks={"m": {"mask_data": indexed.convert("PA")}})
        got = read_npy(self.path(line["masks"]["m"]["mask_data"]))
        self.assertEqual(got.elements, indexed.tobytes())
        big = pillow.frombytes("I;16B", (4, 3), live.LA)
        line = self.log(GRAY, masks={"m": {"mask_data": big}})
        got = read_npy(self.path(line["masks"]["m"]["mask_data"]))
        self.assertEqual(got, Npy(">u2", (3, 4), live.LA))

    def test_files_that_are_open_already(self) -> None:
        path = os.path.join(self.folder, "a.png")
        with open(path, "wb") as file:
            file.write(live.png())
        with pillow.open(path) as image:
            line = self.log(image)
        self.assertEqual(read_npy(self.path(line["data"])).elements, live.RGB)


@unittest.skipUnless(matplotlib, "matplotlib is not installed")
class MatplotlibTest(Case):
    def test_figures(self) -> None:
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(1, 1))
        self.addCleanup(plt.close, "all")
        inner = plt.figure(figsize=(1, 1)).subfigures(1, 2)[1]
        for data in (figure, axes, plt, inner, inner.subplots()):
            line = self.log(data)
            self.assertEqual(list(line), ["data"])
            self.assertTrue(self.content(line).startswith(b"\x89PNG"), data)


@unittest.skipUnless(jax, "jax is not installed")
class JaxTest(Case):
    def test_arrays(self) -> None:
        values = jax.numpy.arange(24, dtype="float32").reshape(2, 4, 3)
        self.assertEqual(self.npy(values), Npy("<f4", (2, 4, 3), struct.pack("<24f", *range(24))))
        data = self.log(values.astype("bfloat16"))["data"]
        self.assertEqual((data["dtype"], data["shape"]), ("bfloat16", [2, 4, 3]))
        line = self.log(values, grouping=jax.numpy.asarray(3))
        self.assertEqual(line["grouping"], 3)

    def test_a_traced_array_is_reported(self) -> None:
        run = Run(self.dir)
        jax.jit(lambda x: (run.log({"k": Image(x)}), x)[1])(jax.numpy.zeros((2, 2)))
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("Tracer", self.warnings[0])


class LiveTest(Case):
    def test_the_live_run_is_whole(self) -> None:
        with mock.patch("sys.stderr", io.StringIO()):
            expected = live.write(self.dir)
        keys = {(line["key"], line["step"]) for line in self.lines() if "key" in line}
        self.assertEqual({(item["key"], item["step"]) for item in expected}, keys)
        self.assertEqual(self.lines()[-1], {"finish": True})
        json.dumps(expected)


if __name__ == "__main__":
    unittest.main()
