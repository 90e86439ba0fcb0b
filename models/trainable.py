"""Trainable layers in numpy; each can write itself as a node.

Shapes: images [N, C, H, W], rows [N, features]; parameters start as float32. ``backward`` maps the gradient of a
layer's output to that of its input and leaves the gradients of its parameters in ``grads``; it belongs to the latest
``forward``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Graph

Floats = NDArray[np.floating[Any]]


class Layer:
    """A step of a network; the base has no parameters."""

    def __init__(self) -> None:
        self.params: dict[str, Floats] = {}
        self.grads: dict[str, Floats] = {}

    def forward(self, x: Floats, training: bool) -> Floats:
        raise NotImplementedError

    def backward(self, grad: Floats) -> Floats:
        raise NotImplementedError

    def export(self, g: Graph, x: str, name: str, output: str = "") -> str:
        """Append this layer to a graph, its parameters as initializers ``name.*``."""
        raise NotImplementedError


class Linear(Layer):
    """``x @ W.T + b``."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        super().__init__()
        weight = rng.normal(0, np.sqrt(2 / inputs), (outputs, inputs)).astype(np.float32)
        self.params = {"weight": weight, "bias": np.zeros(outputs, np.float32)}

    def forward(self, x: Floats, training: bool) -> Floats:
        self._x = x
        return x @ self.params["weight"].T + self.params["bias"]

    def backward(self, grad: Floats) -> Floats:
        self.grads = {"weight": grad.T @ self._x, "bias": grad.sum(0)}
        return grad @ self.params["weight"]

    def export(self, g: Graph, x: str, name: str, output: str = "") -> str:
        operands = [g.weight(f"{name}.{key}", array) for key, array in self.params.items()]
        return g.op("Gemm", x, *operands, transB=1, output=output)


class Conv(Layer):
    """3x3 convolution with padding 1, stride 1 and no bias (a BatchNorm follows)."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        super().__init__()
        weight = rng.normal(0, np.sqrt(2 / (9 * inputs)), (outputs, inputs, 3, 3)).astype(np.float32)
        self.params = {"weight": weight}

    def forward(self, x: Floats, training: bool) -> Floats:
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # [N, C, H, W, 3, 3]
        n, _, h, w = x.shape
        self._columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, -1)
        flat = self._columns @ self._matrix().T
        return np.ascontiguousarray(flat.reshape(n, h, w, -1).transpose(0, 3, 1, 2))

    def backward(self, grad: Floats) -> Floats:
        n, outputs, h, w = grad.shape
        flat = grad.transpose(0, 2, 3, 1).reshape(-1, outputs)
        self.grads = {"weight": (flat.T @ self._columns).reshape(self.params["weight"].shape)}
        columns = (flat @ self._matrix()).reshape(n, h, w, -1, 3, 3)
        padded = np.zeros((n, columns.shape[3], h + 2, w + 2), grad.dtype)
        for i in range(3):
            for j in range(3):
                padded[:, :, i : i + h, j : j + w] += columns[..., i, j].transpose(0, 3, 1, 2)
        return padded[:, :, 1:-1, 1:-1]

    def export(self, g: Graph, x: str, name: str, output: str = "") -> str:
        weight = g.weight(f"{name}.weight", self.params["weight"])
        return g.op("Conv", x, weight, kernel_shape=[3, 3], pads=[1, 1, 1, 1], output=output)

    def _matrix(self) -> Floats:
        return self.params["weight"].reshape(len(self.params["weight"]), -1)


class BatchNorm(Layer):
    """Normalization of channel 1 (Ioffe and Szegedy 2015), running statistics with momentum 0.9."""

    EPSILON = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.params = {"weight": np.ones(channels, np.float32), "bias": np.zeros(channels, np.float32)}
        self.mean = np.zeros(channels, np.float32)
        self.variance = np.ones(channels, np.float32)

    def forward(self, x: Floats, training: bool) -> Floats:
        mean, variance = self.mean, self.variance
        if training:
            axes = _all_but_channels(x)
            mean, variance = x.mean(axes), x.var(axes)
            count = x.size // x.shape[1]
            self.mean = 0.9 * self.mean + 0.1 * mean
            self.variance = 0.9 * self.variance + 0.1 * variance * (count / (count - 1))
        self._scale = 1 / np.sqrt(variance + np.float32(self.EPSILON))
        self._normed = (x - _channels(mean, x)) * _channels(self._scale, x)
        return self._normed * _channels(self.params["weight"], x) + _channels(self.params["bias"], x)

    def backward(self, grad: Floats) -> Floats:
        axes = _all_but_channels(grad)
        self.grads = {"weight": (grad * self._normed).sum(axes), "bias": grad.sum(axes)}
        centred = grad - _channels(grad.mean(axes), grad)
        centred -= self._normed * _channels((grad * self._normed).mean(axes), grad)
        return centred * _channels(self._scale * self.params["weight"], grad)

    def export(self, g: Graph, x: str, name: str, output: str = "") -> str:
        arrays = {**self.params, "running_mean": self.mean, "running_var": self.variance}
        operands = [g.weight(f"{name}.{key}", array) for key, array in arrays.items()]
        return g.op("BatchNormalization", x, *operands, epsilon=self.EPSILON, momentum=0.9, output=output)


class Relu(Layer):
    """``max(x, 0)``."""

    def forward(self, x: Floats, training: bool) -> Floats:
        self._active = x > 0
        return x * self._active

    def backward(self, grad: Floats) -> Floats:
        return grad * self._active

    def export(self, g: Graph, x: str, name: str, output: str = "") -> str:
        return g.op("Relu", x, output=output)


class Dropout(Layer):
    """Zero each element with probability ``ratio`` while training and scale the others up (Srivastava et al. 2014)."""

    def __init__(self, rng: np.random.Generator, ratio: float) -> None:
        super().__init__()
        self._rng, self._ratio = rng, ratio

    def forward(self, x: Floats, training: bool) -> Floats:
        if not training:
            return x
        self._keep = (self._rng.random(x.shape) >= self._ratio).astype(np.float32) / np.float32(1 - self._ratio)
        return x * self._keep

    def backward(self, grad: Floats) -> Floats:
        return grad * self._keep

    def export(self, g: Graph, x: str, name: str, output: str = "") -> str:
        return g.op("Dropout", x, g.scalar(self._ratio), g.constant(np.array(False)), output=output)


class MaxPool(Layer):
    """Maximum over 2x2 tiles; a tie shares its gradient."""

    def forward(self, x: Floats, training: bool) -> Floats:
        n, c, h, w = x.shape
        tiles = x.reshape(n, c, h // 2, 2, w // 2, 2)
        largest = tiles.max((3, 5), keepdims=True)
        winners = (tiles == largest).astype(x.dtype)
        self._share = winners / winners.sum((3, 5), keepdims=True)
        return np.ascontiguousarray(largest[:, :, :, 0, :, 0])

    def backward(self, grad: Floats) -> Floats:
        spread: Floats = self._share * grad[:, :, :, None, :, None]
        n, c, h, _, w, _ = spread.shape
        return spread.reshape(n, c, 2 * h, 2 * w)

    def export(self, g: Graph, x: str, name: str, output: str = "") -> str:
        return g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], output=output)


class Flatten(Layer):
    """[N, C, H, W] -> [N, C * H * W]."""

    def forward(self, x: Floats, training: bool) -> Floats:
        self._shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, grad: Floats) -> Floats:
        return grad.reshape(self._shape)

    def export(self, g: Graph, x: str, name: str, output: str = "") -> str:
        return g.op("Flatten", x, axis=1, output=output)


def _all_but_channels(x: Floats) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _channels(vector: Floats, like: Floats) -> Floats:
    return vector.reshape(1, -1, *[1] * (like.ndim - 2))
