"""Trains a small net on scikit-learn's 8x8 digits and logs images for Safelight.

It shows how a training loop logs without the module `safelight`: it saves arrays unchanged and
describes each in one line of JSON. It never encodes a picture and never waits. `RunLog` is all the
code that a job needs for that.

    pip install numpy==2.4.6 scikit-learn==1.9.1
    python train.py run

`run` must not exist yet. The committed run was made by these versions under Python 3.11 on x86-64
Linux. Seeds are fixed and no line carries a time, so the same machine writes the same bytes again.
"""

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.datasets import load_digits

CONFIG = {"seed": 7, "epochs": 5, "batch_size": 24, "lr": 0.01, "momentum": 0.9, "kernels": 8}
N_TRAIN = 1440  # 60 batches an epoch; leaves 357 test digits, a grid of 17 rows and 21 columns
N_CLASSES = 10


class RunLog:
    """Writes a run directory: dumps, and the media log that describes them."""

    def __init__(self, directory, identity):
        self.directory = Path(directory)
        if self.directory.exists():
            sys.exit(f"{directory} exists; remove it or name another directory")
        with appearing_whole(self.directory / "safelight.json") as file:
            file.write(json.dumps(identity, indent=2).encode() + b"\n")
        self.media = open(self.directory / "train.media.jsonl", "a")

    def line(self, **fields):
        self.media.write(json.dumps(fields) + "\n")
        self.media.flush()

    def save(self, path, array):
        with appearing_whole(self.directory / path) as file:
            np.save(file, array, allow_pickle=False)
        return path

    def images(self, key, step, array, **fields):
        """Saves a picture or a batch, then logs it. A line never names a dump that does not exist yet."""
        path = self.save(dump_path(key, step, fields.get("index")), array)
        self.line(key=key, step=step, data=path, **fields)


@contextmanager
def appearing_whole(path):
    """Opens a file that appears under its name only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        yield file
    os.replace(temporary, path)


def dump_path(key, step, index=None):
    place = "" if index is None else f"-{index}"
    return f"tensors/{key.replace('/', '-')}-{step:06}{place}.npy"


class Net:
    """Convolution 3x3, ReLU, one dense layer. Digits are (N, 8, 8), feature maps (N, K, 8, 8)."""

    def __init__(self, n_kernels, rng):
        n_features = n_kernels * 8 * 8
        self.kernels = rng.normal(0, np.sqrt(2 / 9), (n_kernels, 3, 3)).astype(np.float32)
        self.kernel_bias = np.zeros((n_kernels, 1, 1), np.float32)
        dense = rng.normal(0, np.sqrt(1 / n_features), (n_features, N_CLASSES))
        self.dense = dense.astype(np.float32)
        self.dense_bias = np.zeros(N_CLASSES, np.float32)
        self.parameters = [self.kernels, self.kernel_bias, self.dense, self.dense_bias]
        self.velocities = [np.zeros_like(parameter) for parameter in self.parameters]

    def feature_maps(self, digits):
        maps = np.einsum("nhwij,kij->nkhw", windows(digits), self.kernels) + self.kernel_bias
        return np.maximum(maps, 0)

    def probabilities(self, maps):
        # Not `@`: BLAS rounds differently with another number of threads.
        logits = np.einsum("nf,fc->nc", flat(maps), self.dense) + self.dense_bias
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def before_relu(self, maps, logits_gradient):
        """Takes a gradient back from the logits to the output of the convolution."""
        gradient = np.einsum("nc,fc->nf", logits_gradient, self.dense)
        return gradient.reshape(maps.shape) * (maps > 0)

    def train_batch(self, digits, labels):
        """One step of gradient descent with momentum; returns the mean cross-entropy before it."""
        maps = self.feature_maps(digits)
        probabilities = self.probabilities(maps)
        logits_gradient = (probabilities - one_hot(labels)) / len(digits)
        maps_gradient = self.before_relu(maps, logits_gradient)
        gradients = [
            np.einsum("nkhw,nhwij->kij", maps_gradient, windows(digits)),
            maps_gradient.sum(axis=(0, 2, 3))[:, None, None],
            np.einsum("nf,nc->fc", flat(maps), logits_gradient),
            logits_gradient.sum(axis=0),
        ]
        for parameter, velocity, gradient in zip(self.parameters, self.velocities, gradients):
            velocity *= CONFIG["momentum"]
            velocity -= CONFIG["lr"] * gradient
            parameter += velocity
        return -np.log(probabilities[np.arange(len(labels)), labels]).mean()

    def saliency(self, digits, classes):
        """The gradient of the logits of `classes` by each pixel: (N, 8, 8)."""
        maps_gradient = self.before_relu(self.feature_maps(digits), one_hot(classes))
        return np.einsum("nkhwij,kij->nhw", windows(maps_gradient), self.kernels[:, ::-1, ::-1])


def windows(pictures):
    """The 3x3 around each pixel of (..., H, W), zero beyond the border: (..., H, W, 3, 3)."""
    border = [(0, 0)] * (pictures.ndim - 2) + [(1, 1), (1, 1)]
    return sliding_window_view(np.pad(pictures, border), (3, 3), axis=(-2, -1))


def flat(maps):
    return maps.reshape(len(maps), -1)


def one_hot(classes):
    return np.eye(N_CLASSES, dtype=np.float32)[classes]


def enlarge(pictures, factor):
    """Repeats rows and columns of (..., H, W), because 8x8 pixels are too few to look at."""
    return pictures.repeat(factor, axis=-2).repeat(factor, axis=-1)


def to_bytes(pictures):
    return np.rint(pictures * 255).astype(np.uint8)


def contact_sheet(pictures):
    """Lays 16 pictures (16, H, W) out in four rows: (4 H, 4 W)."""
    _, height, width = pictures.shape
    return pictures.reshape(4, 4, height, width).swapaxes(1, 2).reshape(4 * height, 4 * width)


def red_and_blue(digit, saliency):
    """The digit from -1 to 1, but red where ink helps and blue where it harms: (3, H, W)."""
    strength = np.abs(saliency) / np.abs(saliency).max()
    red, blue = np.float32([[[1]], [[-1]], [[-1]]]), np.float32([[[-1]], [[-1]], [[1]]])
    return (1 - strength) * (2 * digit - 1) + strength * np.where(saliency > 0, red, blue)


def log_epoch(log, step, net, digits, labels, last):
    """Logs the images of an epoch, and more after the last one. Returns the accuracy."""
    maps = net.feature_maps(digits)
    probabilities = net.probabilities(maps)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = predicted != labels
    verdicts = [
        f"{guess} ({sure:.2f})" + (f", is {label}" if guess != label else "")
        for guess, sure, label in zip(predicted, confidence, labels)
    ]
    log.images("val/pred", step, enlarge(digits[:24], 4), format="NHW", caption=verdicts[:24])

    for i, saliency in enumerate(net.saliency(digits[:6], predicted[:6])):
        picture = enlarge(red_and_blue(digits[i], saliency), 4)
        described = {"format": "CHW", "mode": "RGB", "caption": f"why {verdicts[i]}"}
        log.images("val/saliency", step, picture, index=i, **described)

    # One range for all epochs, so that their pictures can be compared.
    log.images("weights/conv1", step, enlarge(net.kernels, 8), format="NHW", range=[-2.5, 2.5])

    # No line describes these dumps. Values in [0, 1] need no description.
    first_maps = maps[:2].reshape(-1, 8, 8) / maps[:2].max()
    log.save(f"dumps/feature_maps/conv1/{step:06}.npy", enlarge(first_maps, 4).astype(np.float16))

    caption = f"{wrong.sum()} of {len(labels)} test digits misread"
    log.images("val/wrong", step, enlarge(wrong.reshape(17, 21), 4), format="HW", caption=caption)

    log_least_sure(log, step, digits, predicted, confidence, wrong, verdicts)

    # NumPy saves a transposed array in Fortran order.
    shares = one_hot(labels).T @ one_hot(predicted) / np.bincount(labels)[:, None]
    caption = "rows: read as, columns: is"
    log.images("val/confusion", step, enlarge(shares, 8).T, format="HW", caption=caption)

    if last:
        # More than 108 images, the default limit for one key and step.
        all_digits = to_bytes(enlarge(digits[:120], 2))
        log.images("val/all", step, all_digits, format="NHW", grouping=12, caption=verdicts[:120])
        log_confidence(log, step, predicted, confidence, labels)
    return 1 - wrong.mean()


def log_least_sure(log, step, digits, predicted, confidence, wrong, verdicts):
    """Logs the 16 least sure digits as one sheet, with a box and a mask for each result."""
    chosen = np.argsort(confidence, kind="stable")[:16]
    box_data = []
    for place, i in enumerate(chosen):
        top, left = place // 4 / 4, place % 4 / 4
        box_data.append({
            "position": {"minX": left, "maxX": left + 0.25, "minY": top, "maxY": top + 0.25},
            "class_id": int(predicted[i]),
            "box_caption": verdicts[i],
            "scores": {"confidence": round(float(confidence[i]), 4)},
        })
    names = {digit: str(digit) for digit in range(N_CLASSES)}
    ink_names = {0: "paper", 1: "right", 2: "misread"}
    ink = np.where(digits[chosen] > 0.25, 1 + wrong[chosen, None, None], 0).astype(np.uint8)
    mask_path = log.save(dump_path("val/least_sure_ink", step), contact_sheet(enlarge(ink, 4)))
    log.images(
        "val/least_sure", step, contact_sheet(enlarge(to_bytes(digits[chosen]), 4)),
        format="HW", mode="L", caption="the least sure first",
        classes=[{"id": digit, "name": name} for digit, name in names.items()],
        boxes={"predicted": {"box_data": box_data, "class_labels": names}},
        masks={"ink": {"mask_data": mask_path, "class_labels": ink_names}},
    )


def log_confidence(log, step, predicted, confidence, labels):
    """Logs the mean confidence for each pair of true and predicted class."""
    counts, sums = np.zeros((2, N_CLASSES, N_CLASSES))
    np.add.at(counts, (labels, predicted), 1)
    np.add.at(sums, (labels, predicted), confidence)
    # A pair of classes that never occurred has no mean: 0/0 stays NaN.
    with np.errstate(invalid="ignore"):
        means = sums / counts
    caption = f"rows: is, columns: read as; {np.isnan(means).sum()} of 100 pairs never met"
    log.images("val/confidence", step, enlarge(means, 8), format="HW", caption=caption)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python train.py RUN_DIR")
    rng = np.random.default_rng(CONFIG["seed"])
    dataset = load_digits()
    order = rng.permutation(len(dataset.target))
    digits, labels = (dataset.images[order] / 16).astype(np.float32), dataset.target[order]
    test_digits, test_labels = digits[N_TRAIN:], labels[N_TRAIN:]

    net = Net(CONFIG["kernels"], rng)
    log = RunLog(sys.argv[1], {
        "id": "digits",
        "project": "safelight-examples",
        "name": "digits cnn",
        "tags": ["example", "numpy"],
        "config": {**CONFIG, "n_train": N_TRAIN, "n_test": len(test_labels)},
    })
    step = 0
    for epoch in range(1, CONFIG["epochs"] + 1):
        losses = []
        for batch in rng.permutation(N_TRAIN).reshape(-1, CONFIG["batch_size"]):
            losses.append(net.train_batch(digits[batch], labels[batch]))
            step += 1
        last = epoch == CONFIG["epochs"]
        accuracy = log_epoch(log, step, net, test_digits, test_labels, last)
        log.line(commit=step)
        loss = np.mean(losses)
        print(f"epoch {epoch}  step {step}  loss {loss:.3f}  test accuracy {accuracy:.3f}")
    log.line(finish=True)


if __name__ == "__main__":
    main()
