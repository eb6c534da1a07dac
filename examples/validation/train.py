"""A training in the shape of public ones: it logs its loss with wandb at each step, and pictures at each validation.

    python train.py [--steps N] [--validate-every N] [--no-pictures] [--torch]

Nothing here knows Safelight. To take the encoding of the pictures out of the loop, start it by

    python -m safelight.wandb --dir 'runs/{id}' train.py

Needs wandb, NumPy and Pillow, and PyTorch for `--torch`.
"""

import argparse
import time

import numpy as np
import wandb
from PIL import Image


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--validate-every", type=int, default=20)
    parser.add_argument("--no-pictures", action="store_true", help="make the pictures, but do not log them")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--width", type=int, default=256, help="size of the layers")
    parser.add_argument("--torch", action="store_true", help="a model and tensors of PyTorch")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class NumpyModel:
    """Two layers that learn a function, and pictures of what they say."""

    def __init__(self, width, rng):
        self.layers = [rng.standard_normal((width, width), np.float32) / width**0.5 for _ in range(2)]

    def train(self, x, lr=0.01):
        first, second = self.layers
        hidden = np.maximum(x @ first, 0)
        error = hidden @ second - np.tanh(x)
        gradient = error @ second.T * (hidden > 0)
        self.layers = [first - lr * x.T @ gradient / len(x), second - lr * hidden.T @ error / len(x)]
        return float((error**2).mean())

    def pictures(self, shades):
        """Arrays (H, W, 3) of bytes."""
        return [(255 * picture).astype(np.uint8) for picture in shades]


class TorchModel:
    """The same in PyTorch."""

    def __init__(self, width, rng):
        import torch

        self.torch = torch
        torch.set_num_threads(1)
        torch.manual_seed(int(rng.integers(1 << 31)))
        layers = torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, width)
        self.model = torch.nn.Sequential(*layers)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def train(self, x):
        x = self.torch.from_numpy(x)
        loss = self.torch.nn.functional.mse_loss(self.model(x), x.tanh())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def pictures(self, shades):
        """Tensors (3, H, W) of floats in [0, 1]."""
        return [self.torch.from_numpy(picture).permute(2, 0, 1) for picture in shades]


def sample(n, resolution, rng):
    """What a generator of pictures may make: shades and some noise, (H, W, 3) of floats in [0, 1]."""
    y, x = np.mgrid[:resolution, :resolution][..., None].astype(np.float32) / resolution
    for _ in range(n):
        a, b, c = rng.random((3, 3), np.float32) * 6
        noise = rng.standard_normal((resolution, resolution, 3), np.float32) * 0.01
        yield np.clip(0.5 + 0.25 * np.sin(a * x + c) + 0.2 * np.cos(b * y) + noise, 0, 1)


def validate(model, shades):
    """Half of the pictures as those of a diffusion pipeline, half as the model's own."""
    half = len(shades) // 2
    pillow = [Image.fromarray((255 * picture).astype(np.uint8)) for picture in shades[:half]]
    return pillow + model.pictures(shades[half:])


def log_validation(images, step):
    wandb.log(
        {"validation": [wandb.Image(image, caption=f"{i}: a photograph") for i, image in enumerate(images)]},
        step=step,
    )


def main():
    args = parse_args()
    rng = np.random.default_rng(args.seed)
    run = wandb.init(project="vision", config=vars(args))
    model = (TorchModel if args.torch else NumpyModel)(args.width, rng)
    batch = rng.standard_normal((args.width, args.width), np.float32)
    # The generator's own time is no part of the loop.
    shades = list(sample(8, args.resolution, rng))
    start = time.perf_counter(), time.thread_time()
    for step in range(args.steps):
        loss = model.train(batch)
        wandb.log({"loss": loss}, step=step)
        if (step + 1) % args.validate_every == 0:
            images = validate(model, [np.roll(picture, step, 0) for picture in shades])
            if not args.no_pictures:
                log_validation(images, step)
    print(f"loop_s {time.perf_counter() - start[0]:.3f} cpu_s {time.thread_time() - start[1]:.3f}", flush=True)
    run.finish()


if __name__ == "__main__":
    main()
