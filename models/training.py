"""Training in numpy: cross-entropy and Adam over a list of layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .trainable import Floats, Layer


def forward(network: Sequence[Layer], x: Floats, *, training: bool = False) -> Floats:
    """Apply the layers in order."""
    for layer in network:
        x = layer.forward(x, training)
    return x


def backward(network: Sequence[Layer], grad: Floats) -> Floats:
    """Apply the gradients in reverse order; return the gradient of the network's input."""
    for layer in reversed(network):
        grad = layer.backward(grad)
    return grad


def cross_entropy(logits: Floats, labels: NDArray[np.int64]) -> tuple[float, Floats]:
    """Mean of ``-log softmax(logits)[label]`` over the rows, and its gradient."""
    shifted = logits - logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(labels))
    grad = np.exp(shifted - log_sum)
    grad[rows, labels] -= 1
    return float((log_sum[:, 0] - shifted[rows, labels]).mean()), grad / np.float32(len(labels))


class Adam:
    """Adam with decoupled weight decay on matrices (Kingma and Ba 2014; Loshchilov and Hutter 2017)."""

    def __init__(self, network: Sequence[Layer], decay: float) -> None:
        self._network, self._decay, self._count = network, decay, 0
        self._moments = [
            {k: (np.zeros_like(p), np.zeros_like(p)) for k, p in layer.params.items()} for layer in network
        ]

    def step(self, rate: float) -> None:
        """Move every parameter against its gradient."""
        self._count += 1
        correct1, correct2 = 1 - 0.9**self._count, 1 - 0.999**self._count
        for layer, moments in zip(self._network, self._moments, strict=True):
            for key, param in layer.params.items():
                first, second = moments[key]
                grad = layer.grads[key]
                first += 0.1 * (grad - first)
                second += 0.001 * (grad * grad - second)
                decay = self._decay if param.ndim > 1 else 0.0
                param -= rate * (first / correct1 / (np.sqrt(second / correct2) + 1e-8) + decay * param)
