"""Torch forms of RNN, GRU and LSTM: steps written out, each direction alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .call import Call, Function, Table, Tensor

_State = tuple[Tensor, ...]
_Step = Callable[[Tensor, _State], _State]
_DEFAULT = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


def _recurrent(cell: Callable[[Call, int], _Step], states: int) -> Function:
    def compute(c: Call) -> tuple[Tensor, ...]:
        _refuse(c)
        turned = bool(c.get("layout", 0))
        x = c[0].transpose(0, 1) if turned else c[0]
        count = c[1].shape[0]
        reverse = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[c.get("direction", "forward")]
        ran = [_run(cell(c, d), x, _initial(c, x, d, states), reverse[d]) for d in range(count)]
        y = torch.stack([outputs for outputs, _ in ran], 1)  # [steps, directions, batch, hidden]
        last = [torch.stack([final[k] for _, final in ran]) for k in range(states)]
        return (y.permute(2, 0, 1, 3), *(t.transpose(0, 1) for t in last)) if turned else (y, *last)

    return compute


def _refuse(c: Call) -> None:
    wanted = _DEFAULT[c.node.op_type] * c[1].shape[0]
    c.only(
        clip=(None,), input_forget=(0,), activations=(None, wanted), activation_alpha=(None,), activation_beta=(None,)
    )
    c.without(sequence_lens=4)


def _initial(c: Call, x: Tensor, direction: int, states: int) -> _State:
    shape = (x.shape[1], c[2].shape[2])
    given = [c[5 + k] for k in range(states)]
    given = [None if t is None else t.transpose(0, 1) if c.get("layout", 0) else t for t in given]
    return tuple(x.new_zeros(shape) if t is None else t[direction] for t in given)


def _run(step: _Step, x: Tensor, state: _State, reverse: bool) -> tuple[Tensor, _State]:
    outputs: list[Tensor] = []
    for row in reversed(x.unbind(0)) if reverse else x.unbind(0):
        state = step(row, state)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if reverse else outputs), state


def _biases(c: Call, direction: int, gates: int) -> tuple[Tensor, Tensor]:
    hidden = c[2].shape[2]
    b = c[2].new_zeros(2 * gates * hidden) if c[3] is None else c[3][direction]
    return b[: gates * hidden], b[gates * hidden :]


def _rnn(c: Call, d: int) -> _Step:
    w, r, (b, rb) = c[1][d], c[2][d], _biases(c, d, 1)
    return lambda x, s: (torch.tanh(x @ w.T + s[0] @ r.T + b + rb),)


def _gru(c: Call, d: int) -> _Step:
    w, r, (b, rb) = c[1][d], c[2][d], _biases(c, d, 3)
    hidden, after = r.shape[1], bool(c.get("linear_before_reset", 0))
    rh, rbh = r[2 * hidden :], rb[2 * hidden :]

    def step(x: Tensor, s: _State) -> _State:
        (h,) = s
        xz, xr, xh = (x @ w.T + b).split(hidden, 1)
        hz, hr = (h @ r[: 2 * hidden].T + rb[: 2 * hidden]).split(hidden, 1)
        z, reset = torch.sigmoid(xz + hz), torch.sigmoid(xr + hr)
        new = torch.tanh(xh + (reset * (h @ rh.T + rbh) if after else (reset * h) @ rh.T + rbh))
        return ((1 - z) * new + z * h,)

    return step


def _lstm(c: Call, d: int) -> _Step:
    w, r, (b, rb) = c[1][d], c[2][d], _biases(c, d, 4)
    hidden = r.shape[1]
    peep: Sequence[Tensor] = [0, 0, 0] if c[7] is None else c[7][d].split(hidden)

    def step(x: Tensor, s: _State) -> _State:
        h, cell = s
        i, o, f, g = (x @ w.T + h @ r.T + b + rb).split(hidden, 1)
        cell_in = torch.sigmoid(i + peep[0] * cell) * torch.tanh(g)
        new = torch.sigmoid(f + peep[2] * cell) * cell + cell_in
        return torch.sigmoid(o + peep[1] * new) * torch.tanh(new), new

    return step


TABLE: Table = {"GRU": _recurrent(_gru, 1), "LSTM": _recurrent(_lstm, 2), "RNN": _recurrent(_rnn, 1)}
