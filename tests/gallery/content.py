"""Writes run directories whose images look like those of a real training: photographs with boxes and masks,
reconstructions that become better, depth maps with NaN and infinite values, small samples, 512 held images, an image
with transparency, hostile names, and lines and dumps that are rejected.

    python tests/gallery/content.py OUT
    safelight ingest OUT/* --store STORE

Everything follows from fixed seeds: two calls write the same files. Needs NumPy and Pillow.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 512, 384
N_SCENES = 3
CLASSES = {1: "boat", 2: "house", 3: "tree", 4: "balloon"}
PAINT = {
    1: [(170, 50, 45), (60, 80, 140), (225, 220, 205)],
    2: [(190, 150, 120), (150, 90, 75), (215, 205, 190)],
    3: [(45, 85, 45), (70, 105, 50), (35, 65, 50)],
    4: [(225, 90, 60), (240, 190, 70), (120, 70, 150)],
}
RUNS = [
    ("unet-lr1e-2", {"lr": 1e-2, "depth": 4, "loss": "dice"}, 0.9, 100),
    ("unet-lr3e-3", {"lr": 3e-3, "depth": 4, "loss": "dice"}, 1.5, 100),
    ("unet-deep", {"lr": 3e-3, "depth": 6, "loss": "dice"}, 2.2, 100),
    ("unet-focal", {"lr": 3e-3, "depth": 4, "loss": "focal"}, 1.2, 150),
]
STEPS = 12


def noise(rng, octaves, persistence=0.5, base=3):
    """Smooth noise in [0, 1]: random grids of several sizes, scaled up and added."""
    total, weight, sum_of_weights = np.zeros((HEIGHT, WIDTH)), 1.0, 0.0
    for octave in range(octaves):
        n = base * 2**octave
        grid = rng.random((max(2, n * HEIGHT // WIDTH + 1), n + 1)).astype(np.float32)
        image = Image.fromarray(grid).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        total += weight * np.asarray(image)
        sum_of_weights += weight
        weight *= persistence
    total /= sum_of_weights
    return (total - total.min()) / (total.max() - total.min())


def mix(a, b, amount):
    amount = np.asarray(amount)[..., None]
    return np.asarray(a) * (1 - amount) + np.asarray(b) * amount


class Scene:
    """A landscape by the sea, its depth, and its objects."""

    def __init__(self, number):
        rng = np.random.default_rng(100 + number)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        horizon = int(HEIGHT * (0.42 + 0.08 * rng.random()))
        top, low, sun = [
            ((70, 120, 190), (225, 225, 215), (255, 244, 214)),
            ((60, 60, 110), (250, 170, 110), (255, 220, 150)),
            ((120, 150, 175), (215, 222, 226), (250, 250, 245)),
        ][number % 3]
        up = np.clip(y / horizon, 0, 1)
        image = mix(np.broadcast_to(top, (HEIGHT, WIDTH, 3)), low, up**1.4)
        self.depth = np.full((HEIGHT, WIDTH), np.inf)
        sun_x, sun_y = rng.integers(80, WIDTH - 80), horizon * 0.45
        glow = np.exp(-((x - sun_x) ** 2 + (y - sun_y) ** 2) / (2 * 60.0**2))
        image = mix(image, sun, np.clip(glow, 0, 0.85))
        clouds = np.clip(noise(rng, 6, 0.55) * 2.4 - 1.15, 0, 1) * (1 - up * 0.4)
        image = mix(image, (250, 248, 244), clouds * 0.8)
        # Water, with waves that shrink towards the horizon, and the sun's reflection.
        water = y >= horizon
        near = np.clip((y - horizon) / (HEIGHT - horizon), 0, 1)
        waves = np.sin(y * 0.9 / (0.15 + near) + 6 * noise(rng, 4)) * 0.5 + noise(rng, 6, 0.7) - 0.5
        sea = mix(np.broadcast_to(np.asarray(low) * 0.72, image.shape), np.asarray(top) * 0.55, near)
        sea = sea + (waves * (14 + 26 * near))[..., None]
        path = np.exp(-((x - sun_x) ** 2) / (2 * (18 + 60 * near) ** 2)) * (waves > 0.05)
        sea = mix(sea, sun, np.clip(path * 0.7, 0, 1))
        image = np.where(water[..., None], sea, image)
        self.depth = np.where(water, 4.0 / np.maximum(near, 0.012), self.depth)
        # Hills, the far ones pale.
        for layer in range(3):
            ridge = noise(rng, 5, 0.5, 2)[HEIGHT // 2] * (70 - 14 * layer) - 22 + 8 * layer
            is_hill = (y < horizon + 6 * layer) & (y > horizon - ridge[None, :] + 6 * layer)
            texture = noise(rng, 7, 0.75, 6)
            green = mix(np.broadcast_to((70, 88, 62), image.shape), (122, 112, 80), texture)
            haze = [0.72, 0.45, 0.18][layer]
            image = np.where(is_hill[..., None], mix(green, low, np.full(y.shape, haze)), image)
            self.depth = np.where(is_hill, [260.0, 150.0, 80.0][layer] + 20 * texture, self.depth)
        self.image, self.mask, self.objects = image, np.zeros((HEIGHT, WIDTH), np.uint8), []
        for class_id, count in ((2, 3), (3, 5), (1, 3), (4, 2)):
            for _ in range(count):
                self.put(rng, class_id, horizon, x, y)
        grain = rng.normal(0, 3.0, self.image.shape) + (noise(rng, 7, 0.8, 8)[..., None] - 0.5) * 10
        vignette = 1 - 0.22 * (((x / WIDTH - 0.5) ** 2 + (y / HEIGHT - 0.5) ** 2) * 2)
        self.image = np.clip((self.image + grain) * vignette[..., None], 0, 255).astype(np.uint8)
        self.horizon = horizon

    def put(self, rng, class_id, horizon, x, y):
        """Draws one object, and remembers its box."""
        color = np.asarray(PAINT[class_id][rng.integers(0, 3)], float)
        if class_id == 1:
            near = 0.1 + 0.8 * rng.random()
            foot = horizon + near * (HEIGHT - horizon) * 0.85
            size = 14 + 60 * near
            cx = rng.uniform(size, WIDTH - size)
            hull = (np.abs(x - cx) < size * (1 - (y - foot + size * 0.3) / size)) & (y < foot)
            hull &= y > foot - size * 0.3
            sail = (x - cx > -size * 0.05) & (y < foot - size * 0.3) & (y > foot - size * 1.7)
            sail &= x - cx < (y - foot + size * 1.7) * 0.5
            shape, distance = hull | sail, 4.0 / max(near, 0.05)
            shade = np.where(sail, 1.25, 0.75) + (x - cx) / (size * 6)
            color = np.where(sail[..., None], (236, 232, 220), color)
        elif class_id == 4:
            size = rng.uniform(14, 34)
            cx, cy = rng.uniform(40, WIDTH - 40), rng.uniform(30, horizon * 0.7)
            ball = (x - cx) ** 2 + ((y - cy) * 0.9) ** 2 < size**2
            basket = (np.abs(x - cx) < size * 0.18) & (np.abs(y - cy - size * 1.55) < size * 0.16)
            shape, distance = ball | basket, rng.uniform(40, 70)
            stripes = np.sin((x - cx) / size * 7) > 0
            color = np.where((stripes & ball)[..., None], color, color * 0.35 + 150)
            shade = 1.15 - ((x - cx + size * 0.4) ** 2 + (y - cy + size * 0.4) ** 2) / (size * 2.6) ** 2
        else:
            foot = horizon + rng.uniform(-4, 6)
            cx, distance = rng.uniform(30, WIDTH - 30), rng.uniform(70, 95)
            if class_id == 2:
                w, h = rng.uniform(14, 24), rng.uniform(16, 28)
                wall = (np.abs(x - cx) < w) & (y < foot) & (y > foot - h)
                roof = (y <= foot - h) & (y > foot - h - w * 0.8)
                roof &= np.abs(x - cx) < w * 1.15 * (y - foot + h + w * 0.8) / (w * 0.8)
                panes = (((x - cx) // 6).astype(int) % 2 == 0) & (((y - foot) // 7).astype(int) % 2 == 0)
                color = np.where(roof[..., None], (120, 62, 52), color)
                color = np.where((panes & wall)[..., None], (70, 80, 95), color)
                shape, shade = wall | roof, 1.0 - (x - cx) / (w * 6)
            else:
                r = rng.uniform(8, 17)
                crown = (x - cx) ** 2 + (y - foot + r * 1.8) ** 2 < r**2 * (0.7 + 0.6 * noise(rng, 6, 0.8, 20))
                trunk = (np.abs(x - cx) < r * 0.14) & (y < foot) & (y > foot - r * 1.4)
                color = np.where(trunk[..., None], (80, 60, 45), color)
                shape = crown | trunk
                shade = 1.1 - ((x - cx) + (y - foot + r * 1.8)) / (r * 5)
        if shape.sum() < 40:
            return
        self.image = np.where(shape[..., None], color * np.clip(shade, 0.4, 1.5)[..., None], self.image)
        self.depth = np.where(shape, distance, self.depth)
        self.mask = np.where(shape, class_id, self.mask).astype(np.uint8)
        rows, columns = np.where(shape)
        box = [int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())]
        self.objects.append((class_id, box))


def boxes(objects, scores):
    """Boxes as wandb.Image takes them."""
    data = []
    for (class_id, (x0, x1, y0, y1)), score in zip(objects, scores):
        box = {
            "position": {"minX": x0, "maxX": x1, "minY": y0, "maxY": y1},
            "domain": "pixel",
            "class_id": class_id,
            "box_caption": CLASSES[class_id],
        }
        if score is not None:
            box["box_caption"] += f" {score:.2f}"
            box["scores"] = {"confidence": round(score, 3), "iou": round(score * 0.9, 3)}
        data.append(box)
    return {"box_data": data, "class_labels": {str(id): name for id, name in CLASSES.items()}}


class Run:
    """A run directory that is being written."""

    def __init__(self, folder, name, config):
        self.folder = folder
        (folder / "tensors").mkdir(parents=True)
        identity = {"id": name, "project": "harbour", "name": name.replace("-", " "), "config": config}
        (folder / "safelight.json").write_text(json.dumps(identity, indent=2) + "\n")
        self.log = (folder / "train.media.jsonl").open("w")
        self.n_dumps = 0

    def dump(self, array):
        path = f"tensors/{self.n_dumps:05}.npy"
        self.n_dumps += 1
        np.save(self.folder / path, array)
        return path

    def line(self, key, step, array, **fields):
        line = {"key": key, "step": step, "data": self.dump(array), **fields}
        self.log.write(json.dumps(line) + "\n")


def blurred(image, radius):
    small = max(1, int(WIDTH / radius)), max(1, int(HEIGHT / radius))
    picture = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def write_steps(run, scenes, seed, speed, stride):
    rng = np.random.default_rng(seed)
    masks = {"class_labels": {str(id): name for id, name in CLASSES.items()}}
    for n in range(STEPS):
        step, error = n * stride, float(np.exp(-speed * n / 4))
        for index, scene in enumerate(scenes):
            found = [(c, [v + int(rng.normal(0, 14 * error)) for v in box]) for c, box in scene.objects]
            found = [(c, [min(a, b), max(a, b) + 1, min(p, q), max(p, q) + 1]) for c, (a, b, p, q) in found]
            kept = [place for place in found if rng.random() > 0.6 * error]
            scores = [float(np.clip(rng.normal(0.95 - 0.6 * error, 0.08), 0.05, 0.99)) for _ in kept]
            predicted = np.roll(scene.mask, (int(6 * error), int(-9 * error)), (0, 1))
            speckle = Image.fromarray(rng.random((HEIGHT // 8, WIDTH // 8)).astype(np.float32))
            speckle = np.asarray(speckle.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
            predicted = np.where(speckle < 0.3 * error, rng.integers(1, 5), predicted).astype(np.uint8)
            run.line(
                "val/photo", step, scene.image, index=index,
                caption=f"scene {index}: {len(kept)} of {len(scene.objects)} objects found",
                boxes={"ground_truth": boxes(scene.objects, [None] * len(scene.objects)),
                       "predictions": boxes(kept, scores)},
                masks={"ground_truth": {"mask_data": run.dump(scene.mask), **masks},
                       "predictions": {"mask_data": run.dump(predicted), **masks}},
                epoch=n // 4, loss=round(0.1 + error, 4),
            )
            made = blurred(scene.image, 1 + 14 * error) + rng.normal(0, 40 * error + 2, scene.image.shape)
            made = np.clip(made, 0, 255).astype(np.uint8)
            run.line("val/recon", step, made, index=index, caption=f"scene {index}, error {error:.3f}")
            depth = (scene.depth * (1 + rng.normal(0, 0.25 * error, scene.depth.shape))).astype(np.float32)
            edge = np.abs(np.diff(scene.mask.astype(int), axis=1, prepend=0)) > 0
            edge |= np.roll(edge, 1, 1) | np.roll(edge, -1, 1)
            depth[edge] = np.nan
            depth[rng.random(depth.shape) < 0.002 + 0.03 * error] = np.nan
            run.line("val/depth", step, depth[::2, ::2], index=index, format="HW", colormap="turbo",
                     range=[4, 120], nan_color="#ff00ff", caption=f"depth of scene {index} in metres")
        signed = (made.astype(np.float32) - scenes[-1].image).mean(2) / 255
        run.line("val/error", step, signed, format="HW", colormap="rdbu", range=[-0.5, 0.5])
        y, x = np.mgrid[0:28, 0:28]
        digits = []
        for k in range(16):
            cx, cy, r = 14 + 4 * np.cos(k + n / 5), 14 + 4 * np.sin(k * 2 + n / 7), 5 + k % 4
            ring = np.exp(-((np.hypot(x - cx, y - cy) - r) ** 2) / (1.5 + 4 * error))
            digits.append(np.clip(ring + rng.normal(0, 0.15 * error + 0.02, ring.shape), 0, 1))
        run.line("train/samples", step, np.stack(digits).astype(np.float32), format="NHW",
                 caption=[f"ring of radius {5 + k % 4}" for k in range(16)])
        if n % 3 == 0:
            run.line("grad/conv1", step, (rng.normal(0, 10 ** (-4 - n / 6), (64, 96))).astype(np.float16),
                     format="HW", colormap="viridis", caption=None)
    return step


def write_odd_things(run, last_step):
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:24, 0:24]
    held = np.stack([
        np.stack([128 + 127 * np.sin((x * (1 + k % 5) + k) / 7), 128 + 127 * np.cos((y + k) / (4 + k % 7)),
                  np.full(x.shape, (k * 37) % 256)], -1)
        for k in range(620)
    ]).astype(np.uint8)
    run.line("val/all", last_step, held, format="NHWC", caption=[f"sample {k}" for k in range(620)])
    y, x = np.mgrid[0:160, 0:160]
    alpha = np.clip(255 * (1.15 - np.hypot(x - 80, y - 80) / 70), 0, 255)
    logo = np.stack([x * 1.5, y * 1.5, 255 - x, alpha], -1).astype(np.uint8)
    run.line("logo", last_step, logo, format="HWC", caption="transparent outside of the disc")
    for step, share in ((0, 0.3), (100, 0.01), (200, 1.0)):
        array = rng.normal(0, 1, (48, 64)).astype(np.float32)
        array[rng.random(array.shape) < share] = np.nan
        array[:4, :4], array[-4:, -4:] = np.inf, -np.inf
        run.line("debug/nan", step, array, format="HW", caption=f"{share:.0%} NaN")
    run.line('odd/<img src=x onerror=alert(1)> "é" & ünïcode %2F', 0, logo[..., :3], format="HWC",
             caption='<script>alert("caption")</script> \u202e and a very long caption ' + "that goes on and on " * 30)
    run.line("big/step", 2**53 + 1, logo[..., :3], format="HWC", caption="a step above 2^53")
    run.log.write("this line is not JSON\n")
    run.log.write(json.dumps({"key": "val/photo", "step": 100, "data": "tensors/none.txt"}) + "\n")
    run.line("val/objects", 100, np.array([["a", "b"]], dtype="U4"))
    run.line("val/wide", 100, np.zeros((3, 5, 7, 9, 2), np.uint8))


def main():
    out = Path(sys.argv[1])
    scenes = [Scene(number) for number in range(N_SCENES)]
    for number, (name, config, speed, stride) in enumerate(RUNS):
        config = {**config, "batch_size": 16, "seed": number, "optimizer": "adam"}
        run = Run(out / name, name, config)
        last = write_steps(run, scenes, number, speed, stride)
        if number == 0:
            write_odd_things(run, last)
        if number < 3:
            run.log.write('{"finish": true}\n')
        run.log.close()


if __name__ == "__main__":
    main()
