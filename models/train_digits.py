"""Train the shipped digit classifiers and write them, with their data, beside this file.

    pip install -e '.[train]'
    python -m fcc.models.train_digits [--out FOLDER]

Data: scikit-learn's load_digits (1797 images of 8x8, UCI "Optical Recognition of Handwritten Digits"), divided by 16
to lie in [0, 1]; a stratified third is held out and never trained on. One seed decides split, weights and batches.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fcc.models import training
from fcc.models.graph import Graph
from fcc.models.trainable import BatchNorm, Conv, Dropout, Flatten, Floats, Layer, Linear, MaxPool, Relu

SEED = 0
CALIBRATION_SAMPLES = 300
EPOCHS = 60
BATCH = 64
PEAK_RATE = 3e-3
DECAY = 0.02
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Digits:
    """Images float32 [S, 1, 8, 8] in [0, 1] and labels int64 [S], to train on and held out."""

    train_x: Floats
    train_y: Labels
    test_x: Floats
    test_y: Labels


def load() -> Digits:
    """Return the digits, a stratified third of them held out."""
    bunch = load_digits()
    x = (bunch.images / 16).astype(np.float32)[:, None]
    y = bunch.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=1 / 3, random_state=SEED, stratify=y)
    return Digits(train_x, train_y, test_x, test_y)


def mlp_layers(rng: np.random.Generator) -> list[Layer]:
    """64 -> 256 -> 128 -> 10."""
    hidden1 = [Linear(rng, 64, 256), BatchNorm(256), Relu(), Dropout(rng, 0.3)]
    hidden2 = [Linear(rng, 256, 128), BatchNorm(128), Relu(), Dropout(rng, 0.3)]
    return [Flatten(), *hidden1, *hidden2, Linear(rng, 128, 10)]


def cnn_layers(rng: np.random.Generator) -> list[Layer]:
    """1 -> 16 -> 32 channels of 8x8, pooled to 4x4, then 512 -> 10."""
    features = [Conv(rng, 1, 16), BatchNorm(16), Relu(), Conv(rng, 16, 32), BatchNorm(32), Relu()]
    return [*features, MaxPool(), Flatten(), Linear(rng, 512, 10)]


NETWORKS: dict[str, Callable[[np.random.Generator], list[Layer]]] = {"digits_mlp": mlp_layers, "digits_cnn": cnn_layers}


def fit(network: Sequence[Layer], x: Floats, y: Labels, rng: np.random.Generator, epochs: int = EPOCHS) -> None:
    """Minimize cross-entropy by Adam, the rate falling from its peak to 0 along a cosine; images shifted at random."""
    optimizer = training.Adam(network, DECAY)
    steps = epochs * (len(x) // BATCH)
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        for i in range(len(x) // BATCH):
            rows = order[i * BATCH : (i + 1) * BATCH]
            logits = training.forward(network, shifted(x[rows], rng), training=True)
            training.backward(network, training.cross_entropy(logits, y[rows])[1])
            done = (epoch * (len(x) // BATCH) + i) / steps
            optimizer.step(PEAK_RATE * 0.5 * (1 + math.cos(math.pi * done)))


def shifted(x: Floats, rng: np.random.Generator) -> Floats:
    """Move each image by at most one pixel along each axis, zeros coming in."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = rng.choice(3, (len(x), 2), p=(0.15, 0.7, 0.15))
    return np.stack([image[:, i : i + 8, j : j + 8] for image, (i, j) in zip(padded, corners, strict=True)])


def accuracy(network: Sequence[Layer], x: Floats, y: Labels) -> float:
    """Share of images whose largest logit is that of the label."""
    return float((training.forward(network, x).argmax(1) == y).mean())


def export(network: Sequence[Layer], name: str) -> onnx.ModelProto:
    """Write the network as a model, x [N, 1, 8, 8] -> logits [N, 10]."""
    g = Graph(name, opset=17, seed=SEED)
    x = g.input("x", ["N", 1, 8, 8])
    for i, layer in enumerate(network):
        x = layer.export(g, x, f"layers.{i}", output="logits" if i == len(network) - 1 else "")
    g.output(x, ["N", 10])
    model = g.model()
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train both networks, print their accuracy on the held-out images, write all files."""
    parser = argparse.ArgumentParser(description="train the digit classifiers of fcc.models")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="folder to write into")
    out: Path = parser.parse_args().out
    digits = load()
    for name, layers in NETWORKS.items():
        rng = np.random.default_rng(SEED)
        network = layers(rng)
        fit(network, digits.train_x, digits.train_y, rng)
        print(f"{name}: held-out accuracy {accuracy(network, digits.test_x, digits.test_y):.4f}")
        onnx.save(export(network, name), out / f"{name}.onnx")
    np.savez_compressed(out / "digits_calibration.npz", x=digits.train_x[:CALIBRATION_SAMPLES, None])
    np.savez_compressed(out / "digits_test.npz", x=digits.test_x[:, None])
    np.save(out / "digits_labels.npy", digits.test_y)


if __name__ == "__main__":
    main()
