"""Recurrent cells in loops, as torch exports them: one operator a layer, on every target."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

import fcc  # noqa: E402

STEPS, ROWS, INPUTS, UNITS = 5, 2, 4, 6


class Cells(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Two cells in a Python loop, one on the other, and a layer of every step."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.lower, self.upper = (getattr(torch.nn, kind)(n, UNITS) for n in (INPUTS, UNITS))
        self.layer = torch.nn.Linear(UNITS, 3)
        self.has_cell_state = kind == "LSTMCell"

    def forward(self, x: Any) -> Any:
        zeros = torch.zeros(ROWS, UNITS)
        h, g = ((zeros, zeros), (zeros, zeros)) if self.has_cell_state else (zeros, zeros)
        rows = []
        for t in range(x.shape[0]):
            h = self.lower(x[t], h)
            g = self.upper(h[0] if self.has_cell_state else h, g)
            rows.append(self.layer(g[0] if self.has_cell_state else g))
        return torch.stack(rows)


class Projected(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A GRU whose inputs are projected for all steps at once, rows first, in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = torch.nn.ModuleList(torch.nn.Linear(INPUTS, 3 * UNITS) for _ in range(2))
        self.states = torch.nn.ModuleList(torch.nn.Linear(UNITS, 3 * UNITS) for _ in range(2))

    def forward(self, x: Any) -> Any:
        found = []
        for k, order in enumerate((range(STEPS), reversed(range(STEPS)))):
            projected, h, rows = self.inputs[k](x), torch.zeros(ROWS, UNITS), [None] * STEPS
            for t in order:
                xr, xz, xn = projected[:, t].chunk(3, -1)
                hr, hz, hn = self.states[k](h).chunk(3, -1)
                z, n = torch.sigmoid(xz + hz), torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
                h = (1 - z) * n + z * h
                rows[t] = h
            found.append(torch.stack(rows, 1))
        return torch.cat(found, -1)


def compiled(model: Any, x: Any, folder: Path, target: str, dynamo: bool) -> Counter[str]:
    """The operators of a compiled export; its outputs are those of the export."""
    path = folder / "model.onnx"
    torch.onnx.export(model.eval(), (x,), path, dynamo=dynamo, verbose=False)
    result = fcc.compile(path, target=target, require_parity=True)
    assert not result.report.guilty
    assert all(row.ok for row in result.report.parity)
    return Counter(n.op_type for n in result.proto().graph.node)


Compiled = Callable[..., Counter[str]]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize(("kind", "target"), [("LSTMCell", "cpu"), ("GRUCell", "cuda"), ("RNNCell", "tensorrt")])
def test_cells_in_a_python_loop(kind: str, target: str, dynamo: bool, tmp_path: Path) -> None:
    found = compiled(Cells(kind), torch.randn(STEPS, ROWS, INPUTS), tmp_path, target, dynamo)
    assert found == {kind.removesuffix("Cell"): 2, "Squeeze": 2, "MatMul": 1, "Add": 1}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [True, False])
def test_projections_of_the_whole_sequence_in_both_directions(dynamo: bool, tmp_path: Path) -> None:
    found = compiled(Projected(), torch.randn(ROWS, STEPS, INPUTS), tmp_path, "cpu", dynamo)
    assert found["GRU"] == 1
    assert not {"Gemm", "MatMul", "Sigmoid", "Concat"} & found.keys()
