"""The shipped digit models do what their README says, and the code that trains them computes true gradients."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from fcc.models import path, training
from fcc.models.trainable import BatchNorm, Conv, Dropout, Flatten, Floats, Layer, Linear, MaxPool, Relu

NAMES = ["digits_mlp", "digits_cnn"]


def shipped(name: str) -> Floats:
    with np.load(path(name)) as members:
        assert members.files == ["x"]
        return np.asarray(members["x"])


def logits_of(model: Path | bytes, x: Floats) -> Floats:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"x": x})[0])


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_on_held_out_images(name: str) -> None:
    labels = np.load(path("digits_labels.npy"))
    logits = logits_of(path(name), shipped("digits_test.npz")[:, 0])
    assert labels.dtype == np.int64
    assert logits.shape == (len(labels), 10)
    assert (logits.argmax(1) == labels).mean() >= 0.985


@pytest.mark.parametrize("name", NAMES)
def test_model_has_what_exporters_leave(name: str) -> None:
    model = onnx.load(path(name))
    onnx.checker.check_model(model, full_check=True)
    ops = [node.op_type for node in model.graph.node]
    assert [value.name for value in model.graph.input] == ["x"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert ops.count("BatchNormalization") == 2
    assert ops.count("Dropout") == (2 if name == "digits_mlp" else 0)


@pytest.mark.parametrize(("name", "samples"), [("digits_calibration.npz", 300), ("digits_test.npz", 599)])
def test_data_has_one_feed_per_row(name: str, samples: int) -> None:
    x = shipped(name)
    assert x.shape == (samples, 1, 1, 8, 8)
    assert x.dtype == np.float32
    assert x.min() == 0
    assert x.max() == 1


def test_calibration_and_test_are_disjoint() -> None:
    seen = {row.tobytes() for row in shipped("digits_calibration.npz")}
    assert not any(row.tobytes() in seen for row in shipped("digits_test.npz"))


def test_shipped_files_are_small() -> None:
    files = list(path("digits_mlp.onnx").parent.glob("digits_*"))
    assert len(files) == 5
    assert sum(file.stat().st_size for file in files) < 1_000_000


def test_unknown_file_names_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"no shipped file 'digit'.*digits_mlp\.onnx"):
        path("digit")


def test_shipped_data_is_what_the_script_splits() -> None:
    pytest.importorskip("sklearn")
    from fcc.models import train_digits

    digits = train_digits.load()
    np.testing.assert_array_equal(shipped("digits_test.npz")[:, 0], digits.test_x)
    np.testing.assert_array_equal(np.load(path("digits_labels.npy")), digits.test_y)
    np.testing.assert_array_equal(shipped("digits_calibration.npz")[:, 0], digits.train_x[:300])


@pytest.mark.parametrize("name", NAMES)
def test_a_short_training_learns_and_exports_what_it_computes(name: str) -> None:
    pytest.importorskip("sklearn")
    from fcc.models import train_digits

    digits, rng = train_digits.load(), np.random.default_rng(0)
    network = train_digits.NETWORKS[name](rng)
    train_digits.fit(network, digits.train_x[:400], digits.train_y[:400], rng, epochs=6)
    assert train_digits.accuracy(network, digits.test_x, digits.test_y) > 0.6
    model = train_digits.export(network, name).SerializeToString()
    np.testing.assert_allclose(
        logits_of(model, digits.test_x), training.forward(network, digits.test_x), rtol=1e-3, atol=1e-4
    )


def widened(network: list[Layer]) -> list[Layer]:
    """The network in float64, where finite differences are sharp."""
    for layer in network:
        layer.params = {key: param.astype(np.float64) for key, param in layer.params.items()}
    return network


@pytest.mark.parametrize("kind", ["rows", "images"])
def test_gradients_agree_with_finite_differences(kind: str) -> None:
    rng = np.random.default_rng(3)
    rows: list[Layer] = [Flatten(), Linear(rng, 32, 6), BatchNorm(6), Relu(), Linear(rng, 6, 3)]
    images: list[Layer] = [
        Conv(rng, 2, 3),
        BatchNorm(3),
        Relu(),
        MaxPool(),
        Conv(rng, 3, 2),
        Flatten(),
        Linear(rng, 8, 3),
    ]
    network = widened({"rows": rows, "images": images}[kind])
    x = rng.normal(size=(5, 2, 4, 4))
    labels = rng.integers(0, 3, 5)

    def loss() -> float:
        return training.cross_entropy(training.forward(network, x, training=True), labels)[0]

    logits = training.forward(network, x, training=True)
    grad_x = training.backward(network, training.cross_entropy(logits, labels)[1])
    checked: list[tuple[Floats, Floats]] = [
        (x, grad_x),
        *((p, layer.grads[k]) for layer in network for k, p in layer.params.items()),
    ]
    for array, grad in checked:
        assert grad.shape == array.shape
        for index in rng.integers(0, array.size, 6):
            np.testing.assert_allclose(grad.flat[index], slope(loss, array, int(index)), rtol=1e-3, atol=1e-6)


def slope(loss: Callable[[], float], array: Floats, index: int, step: float = 1e-5) -> float:
    """Central difference of the loss along one element."""
    centre = array.flat[index]
    array.flat[index] = centre + step
    above = loss()
    array.flat[index] = centre - step
    below = loss()
    array.flat[index] = centre
    return (above - below) / (2 * step)


def test_dropout_keeps_the_mean_and_is_silent_at_inference() -> None:
    layer = Dropout(np.random.default_rng(0), 0.3)
    x = np.ones((200, 200), np.float32)
    assert layer.forward(x, training=False) is x
    dropped = layer.forward(x, training=True)
    assert abs(dropped.mean() - 1) < 0.02
    assert abs((dropped == 0).mean() - 0.3) < 0.02
    np.testing.assert_array_equal(layer.backward(x), dropped)
