"""A script that logs pictures with wandb in every way. It knows nothing of Safelight, and runs with it and without.

    wandb_script.py FOLDER RUN_ID [PART…]

Parts: `values`, `pictures`, `lists`, `annotations`, `steps`, `tables`, `objects`; all of them by default. What wandb
refuses is logged as text, so that errors can be compared, too. The mode comes from `WANDB_MODE`.
"""

import copy
import os
import pickle
import sys

import numpy as np
import wandb
from PIL import Image as pillow

rng = np.random.default_rng(7)
folder, run_id, *parts = sys.argv[1:]


def tried(make):
    """The value, or what wandb says against it."""
    try:
        return make()
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]}"


def values():
    """Every element type, range and shape."""
    ranges = {"unit": (0, 1), "signed": (-1, 1), "byte": (0, 255), "wide": (-300, 900)}
    for dtype in "?", "u1", "i1", "<u2", ">u2", "i4", "i8", "u8", "f2", "f4", ">f8", "c8":
        for name, (low, high) in ranges.items():
            shape = [(6, 9), (6, 9, 1), (1, 6, 9), (6, 9, 3), (6, 9, 4)][rng.integers(5)]
            array = (low + rng.random(shape) * (high - low)).astype(dtype)
            yield f"{dtype}/{name}", lambda: wandb.Image(array)
    photo = rng.integers(0, 256, (12, 10, 3), np.uint8)
    for name, array in {
        "fortran": np.asfortranarray(photo),
        "reversed": photo[::-1, ::-2],
        "channels_first": photo.transpose(2, 0, 1),
        "two_channels": photo[:, :, :2],
        "five": np.zeros((4, 4, 5), np.uint8),
        "row": photo[:1],
        "empty": photo[:0],
        "flat": photo.reshape(-1),
        "batch": photo[None].repeat(2, 0),
        "nan": np.array([[0.5, np.nan], [1, 0]]),
        "infinite": np.array([[0.5, np.inf], [-np.inf, 0]], np.float32),
        "masked": np.ma.masked_array(photo, photo > 100),
        "matrix": np.asmatrix(photo[:, :, 0]),
        "list": [[1, 2], [3, 4]],
    }.items():
        yield name, lambda: wandb.Image(array)
    large = rng.random((600, 500, 3)).astype(np.float32) * 255
    image = wandb.Image(large)
    large[:] = 0
    yield "changed_after", lambda: image


def pictures():
    """Pillow images, files and options."""
    photo = pillow.fromarray(rng.integers(0, 256, (11, 13, 4), np.uint8))
    for mode in "1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16":
        source = photo.convert("L") if mode in ("I", "F", "I;16") else photo
        yield f"pillow/{mode}", lambda: wandb.Image(source.convert(mode))
    yield "pillow/mode", lambda: wandb.Image(photo, mode="L")
    with_profile = photo.convert("RGB")
    with_profile.info["icc_profile"] = b"profile"
    yield "pillow/icc", lambda: wandb.Image(with_profile)
    array = np.asarray(photo)
    for mode in "L", "RGB", "RGBA", "1", "P":
        yield f"mode/{mode}", lambda: wandb.Image(array, mode=mode)
    for file_type in "png", "jpg", "jpeg", "bmp", "webp", "":
        yield f"file_type/{file_type}", lambda: wandb.Image(array[:, :, :3], file_type=file_type)
    path = os.path.join(folder, f"{run_id}.png")
    photo.save(path)
    yield "path", lambda: wandb.Image(path, caption="a file")
    yield "no_path", lambda: wandb.Image(os.path.join("missing", "x.png"))
    for normalize in True, False:
        yield f"normalize/{normalize}", lambda: wandb.Image(array[:, :, :3] / 255, normalize=normalize)
    yield "caption", lambda: wandb.Image(array, caption="épочка \"3\"", grouping=4)
    yield "key with spaces [1]/é #2", lambda: wandb.Image(array)


def small(n, shape=(28, 28)):
    return [wandb.Image(rng.integers(0, 256, shape, np.uint8)) for _ in range(n)]


def lists():
    captioned = [wandb.Image(np.full((5, 6, 3), i, np.uint8), caption=f"number {i}") for i in range(4)]
    yield "captions", lambda: captioned
    yield "no_captions", lambda: small(3)
    yield "one", lambda: small(1)
    yield "tuple", lambda: tuple(small(2))
    yield "none", lambda: []
    yield "sizes", lambda: small(2) + small(1, (5, 6, 3))
    yield "too_many", lambda: small(110, (4, 4))
    yield "mixed", lambda: [*small(1), wandb.Html("<p>x</p>")]
    yield "jpg", lambda: [*small(1), wandb.Image(np.zeros((28, 28, 3), np.uint8), file_type="jpg")]
    yield "nested", lambda: {"a": small(1)[0], "b": {"c": small(2)}}


def sets(i=0, labels=True):
    ids = rng.integers(0, 4, (10, 12))
    classes = {"class_labels": {n: f"kind {n}" for n in range(4)}} if labels else {}
    position = {"minX": 0.1, "maxX": 0.5 + i / 100, "minY": 0.25, "maxY": 0.75}
    box = {"position": position, "class_id": 1, "box_caption": "car", "scores": {"conf": 0.5, "iou": 1}}
    pixels = {"position": {"middle": [3, 4], "width": 2, "height": 2}, "domain": "pixel", "class_id": 2}
    masks = {"gt": {"mask_data": ids, **classes}, "pred": {"mask_data": ids.astype(np.uint8) % 2, **classes}}
    return {"boxes": {"pred": {"box_data": [box, pixels], **classes}}, "masks": masks}


def annotations():
    photo = rng.integers(0, 256, (10, 12, 3), np.uint8)
    yield "all", lambda: wandb.Image(photo, caption="x", **sets())
    yield "without_labels", lambda: wandb.Image(photo, **sets(labels=False))
    classes = wandb.Classes([{"id": 0, "name": "road"}, {"id": 1, "name": "car"}])
    yield "classes", lambda: wandb.Image(photo, classes=classes, **sets())
    yield "in_list", lambda: [wandb.Image(photo, **sets(i)) for i in range(2)] + [wandb.Image(photo)]
    path = os.path.join(folder, f"{run_id}-mask.png")
    pillow.fromarray(photo[:, :, 0]).save(path)
    yield "mask_file", lambda: wandb.Image(photo, masks={"gt": {"path": path}})
    yield "mask_on_jpg", lambda: wandb.Image(photo, file_type="jpg", **sets())
    for name, ids in {
        "large": np.full((10, 12), 300),
        "negative": np.full((10, 12), -1),
        "fractions": np.full((10, 12), 1.5),
        "bool": np.ones((10, 12), bool),
        "cube": np.zeros((2, 3, 4), np.uint8),
        "list": [[1]],
        "high": np.full((10, 12), 200, np.uint8),
    }.items():
        yield f"mask/{name}", lambda: wandb.Image(photo, masks={"m": {"mask_data": ids, "class_labels": {1: "a"}}})
    yield "bad_box", lambda: wandb.Image(photo, boxes={"b": {"box_data": [{"class_id": 1}]}})
    yield "bad_boxes", lambda: wandb.Image(photo, boxes=[1])


class Page(wandb.Html):
    """Media that asks for the file of an image when it is logged, as a table does."""

    def __init__(self, image):
        super().__init__("<p>x</p>")
        self.image = image

    def bind_to_run(self, *args, **options):
        self.image.image.load()
        super().bind_to_run(*args, **options)


def objects():
    """The same object in several places, and what asks for its file."""
    twice = small(1)[0]
    yield "twice/a", lambda: twice
    yield "twice/b", lambda: twice
    yield "twice/list", lambda: [twice, twice]
    listed = small(1)
    # wandb names files by the innermost name.
    yield "twice/lists", lambda: {"objects/a": listed, "objects/b": listed}
    first = small(1)[0]
    yield "looked_at_between", lambda: {"objects/looked_at": first, "page": Page(first)}
    looked_at = small(1, (7, 8, 3))[0]
    yield "looked_at", lambda: (looked_at.image.load(), looked_at)[1]
    yield "looked_at/again", lambda: looked_at.image.getpixel((2, 3))
    yield "copy", lambda: wandb.Image(small(1)[0], caption="a copy")
    yield "copy_of_logged", lambda: wandb.Image(twice, caption="a copy")
    yield "pickled", lambda: pickle.loads(pickle.dumps(small(1)[0]))
    yield "deep_copy", lambda: copy.deepcopy(small(1)[0])
    yield "equal", lambda: str([twice == twice, twice == small(1)[0], twice != looked_at])
    yield "file", lambda: os.path.splitext(small(1)[0]._path)[1]
    yield "size", lambda: str([twice._width, twice._height, twice.format, len(twice.to_data_array())])

    class Own(wandb.Image):
        """A subclass of a user."""

    yield "subclass", lambda: Own(np.zeros((3, 4), np.uint8))


def tables(run):
    first, both, in_table = small(1), small(1), small(2)
    run.log({"first": first[0]})
    table = wandb.Table(columns=["n", "image"], data=[[0, first[0]], [1, both[0]], [2, in_table[0]]])
    run.log({"table": table})
    run.log({"after": both[0]})
    table = wandb.Table(columns=["image"])
    table.add_data(wandb.Image(np.zeros((10, 12), np.uint8), **sets()))
    run.log({"annotated": table})
    artifact = wandb.Artifact("pictures", "pictures")
    artifact.add(in_table[1], "alone")
    entries = {name: [entry.digest, entry.size] for name, entry in artifact.manifest.entries.items()}
    run.log({"entries": str(entries)})


def steps(run):
    image = lambda n: wandb.Image(np.full((5, 6), n, np.uint8))
    run.define_metric("val/*", step_metric="epoch")
    for n in range(3):
        run.log({"epoch": n, "val/loss": 1 / (n + 1), "val/image": image(n)}, step=1000 + 10 * n)
    run.log({"a": image(10)}, commit=False)
    run.log({"b": image(11), "loss": 0.5})
    run.log({"same": image(12)}, commit=False)
    run.log({"same": image(13)}, commit=True)
    run.log({"late": image(14)}, step=3)
    run.log({"more": image(15)}, step=2000, commit=True)
    wandb.log({"module": image(16)})
    run.summary["best"] = image(17)
    run.log({"loss": 0.25, "last": image(18)})


settings = wandb.Settings(console="off", disable_git=True, x_disable_stats=True)
with wandb.init(project="vision", id=run_id, dir=folder, config={"lr": 0.1}, settings=settings) as run:
    for part in (values, pictures, lists, annotations, objects):
        if not parts or part.__name__ in parts:
            for name, make in part():
                made = tried(make)
                run.log({"n": 1, f"{part.__name__}/{name}": made})
    for of_run in (tables, steps):
        if not parts or of_run.__name__ in parts:
            of_run(run)
