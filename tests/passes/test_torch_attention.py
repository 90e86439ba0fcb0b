"""Attention as it is written in torch, exported by both exporters of the torch at hand.

``python tests/passes/test_torch_attention.py`` writes the graphs of attention_exports.txt, which test_attention_exports.py
reads where there is no torch.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch") if __name__ != "__main__" else __import__("torch")
F = torch.nn.functional

E, N, B, S, T = 16, 4, 2, 5, 7
H = E // N
Forward = Callable[..., Any]


def heads(x: Any, n: int = N) -> Any:
    b, s, e = x.shape
    return x.view(b, s, n, e // n).permute(0, 2, 1, 3)


def merged(x: Any) -> Any:
    b, n, s, h = x.shape
    return x.permute(0, 2, 1, 3).contiguous().view(b, s, n * h)


def softmax(x: Any) -> Any:
    return F.softmax(x, dim=-1)


def qkv(m: Any, x: Any, kv: int = N) -> Any:
    return heads(m.q(x)), heads(m.k(x), kv), heads(m.v(x), kv)


# -- masks -----------------------------------------------------------------------------------------------------------
def bert(m: Any, x: Any, mask: Any) -> Any:
    q, k, v = qkv(m, x)
    added = (1.0 - mask[:, None, None, :].to(x.dtype)) * -10000.0
    return m.o(merged(softmax(q @ k.transpose(-1, -2) / math.sqrt(H) + added) @ v))


def bert_lowest(m: Any, x: Any, mask: Any) -> Any:
    q, k, v = qkv(m, x)
    added = (1.0 - mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
    return m.o(merged(softmax(q @ k.transpose(-1, -2) / math.sqrt(H) + added) @ v))


def distilbert(m: Any, x: Any, mask: Any) -> Any:
    q, k, v = qkv(m, x)
    scores = (q / math.sqrt(H)) @ k.transpose(2, 3)
    hidden = (mask == 0).view(x.shape[0], 1, 1, x.shape[1]).expand_as(scores)
    return m.o(merged(softmax(scores.masked_fill(hidden, torch.finfo(x.dtype).min)) @ v))


def filled(m: Any, x: Any, mask: Any) -> Any:
    q, k, v = qkv(m, x)
    scores = (q @ k.transpose(2, 3) * H**-0.5).masked_fill(mask[:, None, None, :] == 0, float("-inf"))
    return m.o(merged(softmax(scores) @ v))


def opt(m: Any, x: Any, bias: Any) -> Any:
    q, k, v = qkv(m, x)
    scores = torch.max(q * H**-0.5 @ k.transpose(-1, -2) + bias, torch.tensor(torch.finfo(x.dtype).min))
    return m.o(merged(softmax(scores) @ v))


def t5(m: Any, x: Any, mask: Any) -> Any:
    q, k, v = qkv(m, x)
    place = torch.arange(x.shape[1])
    bias = m.rel(torch.clamp(place[None, :] - place[:, None] + 4, 0, 7)).permute(2, 0, 1).unsqueeze(0)
    bias = bias + (1.0 - mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
    scores = q @ k.transpose(3, 2) + bias
    return m.o(merged(softmax(scores.float()).type_as(scores) @ v))


# -- causal ----------------------------------------------------------------------------------------------------------
def gpt_core(m: Any, q: Any, k: Any, v: Any) -> Any:
    scores = q @ k.transpose(-1, -2) / torch.full([], v.size(-1) ** 0.5, dtype=q.dtype)
    ql, kl = q.size(-2), k.size(-2)
    lowest = torch.full([], torch.finfo(scores.dtype).min, dtype=scores.dtype)
    return softmax(torch.where(m.table[:, :, kl - ql : kl, :kl], scores, lowest)).type(v.dtype) @ v


def gpt2(m: Any, x: Any) -> Any:
    y = torch.addmm(m.b, x.view(-1, E), m.w).view(*x.shape[:-1], 3 * E)
    q, k, v = (heads(t) for t in y.split(E, dim=2))
    return m.o(merged(gpt_core(m, q, k, v)))


def gpt2_past(m: Any, x: Any, pk: Any, pv: Any) -> Any:
    y = torch.addmm(m.b, x.view(-1, E), m.w).view(*x.shape[:-1], 3 * E)
    q, k, v = (heads(t) for t in y.split(E, dim=2))
    k, v = torch.cat((pk, k), dim=-2), torch.cat((pv, v), dim=-2)
    return m.o(merged(gpt_core(m, q, k, v))), k, v


def triu(m: Any, x: Any) -> Any:
    q, k, v = qkv(m, x)
    mask = torch.triu(torch.full((x.shape[1], x.shape[1]), float("-inf")), diagonal=1)
    return m.o(merged(softmax(q @ k.transpose(-2, -1) * (1.0 / math.sqrt(k.size(-1))) + mask) @ v))


def tril(m: Any, x: Any) -> Any:
    q, k, v = qkv(m, x)
    ones = torch.tril(torch.ones(x.shape[1], x.shape[1])).view(1, 1, x.shape[1], x.shape[1])
    scores = (q @ k.transpose(-2, -1) * (1.0 / math.sqrt(H))).masked_fill(ones == 0, float("-inf"))
    return m.o(merged(softmax(scores) @ v))


def sdpa_causal(m: Any, x: Any) -> Any:
    return m.o(merged(F.scaled_dot_product_attention(*qkv(m, x), is_causal=True)))


# -- layouts ---------------------------------------------------------------------------------------------------------
def bart(m: Any, x: Any, memory: Any) -> Any:
    b, s, _ = x.shape
    q, k, v = heads(m.q(x) * H**-0.5), heads(m.k(memory)), heads(m.v(memory))
    q, k, v = (t.contiguous().view(b * N, -1, H) for t in (q, k, v))
    y = torch.bmm(softmax(torch.bmm(q, k.transpose(1, 2))), v).view(b, N, s, H)
    return m.o(y.transpose(1, 2).reshape(b, s, E))


def bloom(m: Any, x: Any, alibi: Any) -> Any:
    b, s, _ = x.shape
    q, v = heads(m.q(x)).reshape(b * N, s, H), heads(m.v(x)).reshape(b * N, s, H)
    k = heads(m.k(x)).permute(0, 1, 3, 2).reshape(b * N, H, s)
    bias = alibi[:, :, None, :].expand(b, N, 1, s).reshape(b * N, 1, s)
    scores = bias.baddbmm(batch1=q, batch2=k, beta=1.0, alpha=1.0 / math.sqrt(H)).view(b, N, s, s)
    scores = scores.masked_fill(torch.triu(torch.ones(s, s, dtype=torch.bool), diagonal=1), torch.finfo(x.dtype).min)
    p = F.softmax(scores, dim=-1, dtype=torch.float32).to(x.dtype).view(b * N, s, s)
    return m.o(merged(torch.bmm(p, v).view(b, N, s, H)))


def vit(m: Any, x: Any) -> Any:
    b, s, _ = x.shape
    q, k, v = m.qkv(x).reshape(b, s, 3, N, H).permute(2, 0, 3, 1, 4).unbind(0)
    return m.o((softmax(q * H**-0.5 @ k.transpose(-2, -1)) @ v).transpose(1, 2).reshape(b, s, E))


def vit_sdpa(m: Any, x: Any) -> Any:
    b, s, _ = x.shape
    q, k, v = m.qkv(x).reshape(b, s, 3, N, H).permute(2, 0, 3, 1, 4).unbind(0)
    return m.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, s, E))


def sdpa_mask(m: Any, x: Any, mask: Any) -> Any:
    return m.o(merged(F.scaled_dot_product_attention(*qkv(m, x), attn_mask=mask[:, None, None, :] > 0)))


def sdpa_bias(m: Any, x: Any, bias: Any) -> Any:
    return m.o(merged(F.scaled_dot_product_attention(*qkv(m, x), attn_mask=bias, scale=0.3)))


def multihead(m: Any, x: Any) -> Any:
    return m.a(x, x, x, need_weights=False)[0]


def scaled_on_both(m: Any, x: Any) -> Any:
    q, k, v = qkv(m, x)
    return m.o(merged(softmax((q * H**-0.25) @ (k * H**-0.25).transpose(-1, -2)) @ v))


def one_head(m: Any, x: Any) -> Any:
    return m.o(softmax(torch.bmm(m.q(x), m.k(x).transpose(1, 2)) * E**-0.5) @ m.v(x))


# -- rotary ----------------------------------------------------------------------------------------------------------
def rotate_half(x: Any) -> Any:
    a, b = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return torch.cat((-b, a), dim=-1)


def repeat(x: Any) -> Any:
    b, n, s, h = x.shape
    return x[:, :, None, :, :].expand(b, n, N // n, s, h).reshape(b, N, s, h)


def llama(m: Any, x: Any, position: Any) -> Any:
    b, s, _ = x.shape
    q, k, v = qkv(m, x, 2)
    angle = (m.inv[None, :, None].expand(position.shape[0], -1, 1) @ position[:, None, :].float()).transpose(1, 2)
    angle = torch.cat((angle, angle), dim=-1)
    cos, sin = angle.cos().unsqueeze(1), angle.sin().unsqueeze(1)
    q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
    scores = q @ repeat(k).transpose(2, 3) / math.sqrt(H)
    scores = scores + torch.triu(torch.full((s, s), torch.finfo(x.dtype).min), diagonal=1)[None, None]
    p = F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
    return m.o((p @ repeat(v)).transpose(1, 2).contiguous().reshape(b, s, E))


def llama_past(m: Any, x: Any, position: Any, pk: Any, pv: Any) -> Any:
    b, s, _ = x.shape
    q, k, v = qkv(m, x, 2)
    cos, sin = m.cos[position].unsqueeze(1), m.sin[position].unsqueeze(1)
    q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
    k, v = torch.cat([pk, k], dim=2), torch.cat([pv, v], dim=2)
    p = softmax(q @ torch.repeat_interleave(k, 2, dim=1).transpose(2, 3) / math.sqrt(H))
    return m.o((p @ torch.repeat_interleave(v, 2, dim=1)).transpose(1, 2).contiguous().reshape(b, s, E)), k, v


def gptj(m: Any, x: Any, position: Any) -> Any:
    b, s, _ = x.shape

    def turned(t: Any) -> Any:
        rot, rest = t[..., :2], t[..., 2:]
        swapped = torch.stack((-rot[..., 1::2], rot[..., ::2]), dim=-1).flatten(-2)
        return torch.cat([rot * cos + swapped * sin, rest], dim=-1).permute(0, 2, 1, 3)

    cos, sin = (torch.repeat_interleave(t[position][:, :, None, :1], 2, 3) for t in (m.cos, m.sin))
    q, k, v = turned(m.q(x).view(b, s, N, H)), turned(m.k(x).view(b, s, N, H)), heads(m.v(x))
    return m.o(merged(softmax(q @ k.transpose(-1, -2) / math.sqrt(H)) @ v))


def llama_meta(m: Any, x: Any) -> Any:
    b, s, _ = x.shape
    c, n = (t[:s, : H // 2][None, :, None, :] for t in (m.cos, m.sin))

    def turned(t: Any) -> Any:
        a, d = t.reshape(b, s, N, H // 2, 2).unbind(-1)
        return torch.stack((a * c - d * n, a * n + d * c), dim=-1).flatten(3).transpose(1, 2)

    q, k, v = turned(m.q(x)), turned(m.k(x)), heads(m.v(x))
    return m.o(merged(softmax(q @ k.transpose(-1, -2) / math.sqrt(H)) @ v))


@dataclass(frozen=True)
class Case:
    """A module: its forward, its inputs with the names of their dynamic axes, and what must be left of it.

    ``ops``: the operators with more than one operand that move no elements, in order.
    """

    forward: Forward
    inputs: dict[str, tuple[Any, dict[int, str]]]
    ops: str = "Attention"
    kv: int = N
    exporters: tuple[str, ...] = ("script", "dynamo")
    sizes: dict[str, int] = field(default_factory=dict)


def _x(s: int = S) -> tuple[Any, dict[int, str]]:
    return torch.randn(B, s, E), {0: "batch"} if s == 1 else {0: "batch", 1: "sequence"}


def _mask() -> tuple[Any, dict[int, str]]:
    return torch.tensor([[1, 1, 1, 0, 0], [1] * 5]), {0: "batch", 1: "sequence"}


def _past(n: int) -> tuple[Any, dict[int, str]]:
    return torch.randn(B, n, 3, H), {0: "batch", 2: "past"}


def cases() -> Iterator[Case]:
    square = (torch.randn(B, 1, S, S), {0: "batch", 2: "sequence", 3: "sequence"})
    place = (torch.arange(S)[None].expand(B, S).contiguous(), {0: "batch", 1: "sequence"})
    one = (torch.full((B, 1), 3), {0: "batch"})
    masked: tuple[Forward, ...] = (bert, bert_lowest, distilbert, filled, t5, sdpa_mask)
    alone: tuple[Forward, ...] = (gpt2, triu, tril, sdpa_causal, vit, vit_sdpa, scaled_on_both, one_head)
    yield from (Case(f, {"x": _x(), "mask": _mask()}) for f in masked)
    yield from (Case(f, {"x": _x(), "bias": square}) for f in (opt, sdpa_bias))
    yield from (Case(f, {"x": _x()}) for f in alone)
    yield Case(multihead, {"x": _x()}, exporters=("dynamo",))  # torch.jit.trace makes its length a constant
    yield Case(gpt2_past, {"x": _x(1), "pk": _past(N), "pv": _past(N)})
    yield Case(bart, {"x": _x(), "memory": (torch.randn(B, T, E), {0: "batch", 1: "other"})})
    yield Case(bloom, {"x": _x(), "alibi": (torch.randn(B, N, S), {0: "batch", 2: "sequence"})})
    yield Case(llama, {"x": _x(), "position": place}, "RotaryEmbedding RotaryEmbedding Attention", 2)
    yield Case(llama_past, {"x": _x(1), "position": one, "pk": _past(2), "pv": _past(2)},
               "RotaryEmbedding RotaryEmbedding Attention", 2)  # fmt: skip
    yield Case(gptj, {"x": _x(), "position": place}, "RotaryEmbedding RotaryEmbedding Attention")
    yield Case(llama_meta, {"x": _x()}, "RotaryEmbedding RotaryEmbedding Attention")


def module(case: Case) -> Any:
    nn = torch.nn
    torch.manual_seed(0)
    made = type("Case", (nn.Module,), {"forward": case.forward})()
    made.q, made.k, made.v = nn.Linear(E, E), nn.Linear(E, case.kv * H), nn.Linear(E, case.kv * H)
    made.o, made.qkv, made.rel = nn.Linear(E, E), nn.Linear(E, 3 * E), nn.Embedding(8, N)
    made.a = nn.MultiheadAttention(E, N, batch_first=True)
    made.w, made.b = nn.Parameter(torch.randn(E, 3 * E) * 0.1), nn.Parameter(torch.zeros(3 * E))
    inverse = 1.0 / (10000 ** (torch.arange(0, H, 2).float() / H))
    angle = torch.outer(torch.arange(64).float(), inverse).repeat(1, 2)
    for name, value in {"inv": inverse, "cos": angle.cos(), "sin": angle.sin(),
                        "table": torch.tril(torch.ones(64, 64, dtype=torch.bool)).view(1, 1, 64, 64)}.items():  # fmt: skip
        made.register_buffer(name, value)
    return made.eval()


def exported(case: Case, exporter: str) -> onnx.ModelProto:
    """Export a module with dynamic axes."""
    made, args = module(case), tuple(v for v, _ in case.inputs.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            if exporter == "script":
                file = BytesIO()
                axes = {name: dims for name, (_, dims) in case.inputs.items()}
                torch.onnx.export(
                    made, args, file, dynamo=False, opset_version=17, input_names=list(case.inputs), dynamic_axes=axes
                )
                return onnx.load_from_string(file.getvalue())
            pytest.importorskip("onnxscript")
            names: dict[str, Any] = {}
            for _, dims in case.inputs.values():
                names.update({d: names.get(d) or torch.export.Dim(d, min=2, max=60) for d in dims.values()})
            shapes = tuple({i: names[d] for i, d in dims.items()} for _, dims in case.inputs.values())
            program = torch.onnx.export(
                made, args, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False
            )
            proto: onnx.ModelProto = program.model_proto
            return proto
        finally:
            logging.disable(logging.NOTSET)


def feeds(case: Case) -> dict[str, np.ndarray[Any, Any]]:
    return {name: value.numpy() for name, (value, _) in case.inputs.items()}


def all_cases() -> list[Any]:
    return [pytest.param(c, e, id=f"{c.forward.__name__}-{e}") for c in cases() for e in c.exporters]


@pytest.mark.parametrize(("case", "exporter"), all_cases())
def test_recovered(case: Case, exporter: str) -> None:
    from onnx.reference import ReferenceEvaluator
    from onnx_ir import serde

    from fcc import passes
    from fcc.analysis import shapes
    from fcc.frontend import read
    from fcc.rewrite import Log, PassContext
    from fcc.rewrite.manager import Manager
    from fcc.target import get_target

    proto = exported(case, exporter)
    found = read(proto)
    shapes.infer(found)
    Manager(()).run(passes.pipeline(2), found, PassContext(get_target("cpu"), Log(strict=True)))
    ops = [n.op_type for n in found.nodes()]
    assert " ".join(o for o in ops if o in ("Attention", "RotaryEmbedding", "Softmax")) == case.ops
    with np.errstate(all="ignore"):
        want, got = (
            ReferenceEvaluator(p).run(None, dict(feeds(case))) for p in (proto, serde.serialize_model(found.model))
        )
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# -- as text ---------------------------------------------------------------------------------------------------------
TEXT = "attention_exports.txt"
IN_TEXT = (bert_lowest, distilbert, filled, t5, opt, gpt2, gpt2_past, triu, sdpa_causal, sdpa_mask, bart, bloom, vit,
           llama, llama_past, gptj, llama_meta)  # fmt: skip


def text(case: Case, exporter: str) -> str:
    """A graph for onnx.parser: tensors of more than 8 elements are only declared, and named for what they hold."""
    proto, kept = exported(case, exporter), module(case)
    tables = {n: getattr(kept, n).numpy() for n in ("inv", "cos", "sin", "table")}
    graph, constants = proto.graph, {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        else:
            nodes.append(node)
    names: dict[str, str] = {i.name: i.name for i in graph.input} | {"": ""}
    declared: dict[str, str] = {}

    def constant(value: np.ndarray[Any, Any]) -> str:
        kind = onnx.helper.tensor_dtype_to_string(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
        dims = f"[{','.join(map(str, value.shape))}]" if value.ndim else ""
        kind = kind.removeprefix("TensorProto.").lower() + dims
        if value.size > 8:
            for name, table in tables.items():
                if table.size == value.size and np.array_equal(table.ravel(), value.ravel()):
                    return declared.setdefault(f"{kind} {name}", name)
            return declared.setdefault(f"{kind} w{len(declared)}", f"w{len(declared)}")
        numbers = ",".join(str(x) if value.dtype.kind == "f" else str(int(x)) for x in value.ravel())
        literal = f"{kind} @ = {{{numbers}}}"
        return declared.setdefault(literal, f"c{len(declared)}")

    lines = []
    for node in nodes:
        for name in node.input:
            if name not in names:
                names[name] = constant(constants[name])
        for name in node.output:
            names.setdefault(name, f"v{len(names)}")
        node.input[:], node.output[:] = ([names[n] for n in part] for part in (node.input, node.output))
        node.name, node.doc_string = "", ""
        del node.metadata_props[:]
        shown = onnx.printer.to_text(node).strip().removeprefix('[""] ')
        lines.append(re.sub(r"(\w+): (?:ints?|strings?|tensor) = ", r"\1=", shown))
    io = []
    for values in (graph.input, graph.output):
        declarations = []
        for v in values:
            kind = v.type.tensor_type
            element = onnx.helper.tensor_dtype_to_string(kind.elem_type).removeprefix("TensorProto.").lower()
            dims = ",".join(re.sub(r"\W+", "_", d.dim_param) or str(d.dim_value) for d in kind.shape.dim)
            declarations.append(f"{element}[{dims}] {names[v.name]}")
        io.append(", ".join(declarations))
    tensors = ", ".join(literal.replace("@", name) for literal, name in declared.items())
    version = next(o.version for o in proto.opset_import if not o.domain)
    head = f'<ir_version: 8, opset_import: ["" : {version}]>'
    return "\n".join([head, f"g ({io[0]}) => ({io[1]})", f"  <{tensors}>", "{", *lines, "}"])


if __name__ == "__main__":
    chosen = [(c, e) for c in cases() if c.forward in IN_TEXT for e in c.exporters]
    written = "\n\n".join(f"# {c.forward.__name__} {e}: {c.ops}\n{text(c, e)}" for c, e in chosen)
    Path(__file__).with_name(TEXT).write_text(written + "\n")
