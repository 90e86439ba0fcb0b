"""Measure the table of choices that ships with fcc (fcc/tune/TARGET.jsonl) on this machine.

    python benchmarks/tune_table.py [--target cpu] [--families conv1d,norm,...] [--out FILE] [--list]

A grid of small graphs, each in a form that makes a pass ask what pays: compiled with tuning on, which times both forms
of every choice in turn, one thread. Rows for choices that the file knows already are measured again and replaced;
others stay. Run it on an otherwise idle machine of the class that the table is for.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import onnx

import fcc
import fcc.tune
from fcc.cli.tune import keep
from fcc.models.bert import bert
from fcc.models.gpt import gpt
from fcc.models.recurrent_cells import Cell, layer
from fcc.testing import model_from

SECONDS = 20.0  # at most, for one graph
LN = "m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) ve = Add(v, e) s = Sqrt(ve) n = Div(d, s)"
SOFTMAX = "m = ReduceMax(x, a) d = Sub(x, m) u = Exp(d) s = ReduceSum(u, a) y = Div(u, s)"
TANH_GELU = (
    "p = Pow(x, k3) c = Mul(p, k0) i = Add(x, c) t = Mul(i, k1) h = Tanh(t) o = Add(h, one) w = Mul(x, o) "
    "y = Mul(w, half)"
)
ERF_GELU = "t = Div(x, r2) h = Erf(t) o = Add(h, one) w = Mul(x, o) y = Mul(w, half)"
NUMBERS = "float k3 = {3}, float k0 = {0.044715}, float k1 = {0.7978845608}, float one = {1}, float half = {0.5}"
NUMBERS += ", float r2 = {1.4142135624}"


def text(body: str, shape: str, constants: str = "", out: str = "") -> onnx.ModelProto:
    """Return g(x[shape]) => y[out]."""
    return model_from(f"g (float[{shape}] x) => (float[{out or shape}] y) <{constants}> {{ {body} }}", 18, {})


def conv1d() -> Iterator[onnx.ModelProto]:
    for c, size, kernel, batch in product((32, 64, 128, 256), (64, 256, 1024), (3, 5), (1, 4)):
        pads = f"pads = [{kernel // 2}, {kernel // 2}]"
        weights = f"float[{c},{c},{kernel}] w0, float[{c}] b0, float[{c},{c},{kernel}] w1, float[{c}] b1"
        body = f"h = Conv<{pads}>(x, w0, b0) r = Relu(h) h1 = Conv<{pads}>(r, w1, b1) y = Relu(h1)"
        yield text(body, f"{batch},{c},{size}", weights)


def conv2d() -> Iterator[onnx.ModelProto]:
    for c, size, batch in product((16, 32, 64, 128, 256), (7, 14, 28, 56), (1, 8)):
        layers = " ".join(
            f"c{i} = Conv<pads = [1, 1, 1, 1]>({'x' if i == 0 else f'r{i - 1}'}, w{i}, b{i}) r{i} = Relu(c{i})"
            for i in range(3)
        )
        weights = ", ".join(f"float[{c},{c},3,3] w{i}, float[{c}] b{i}" for i in range(3))
        if batch * c * size <= 128 * 56:
            yield text(f"{layers} y = Identity(r2)", f"{batch},{c},{size},{size}", weights)


def norm() -> Iterator[onnx.ModelProto]:
    for tokens, width in product((1, 16, 64, 128, 256, 512), (64, 128, 256, 512, 768, 1024)):
        shape = f"1,{tokens},{width}"
        affine = f"float[{width}] g, float[{width}] b"
        yield text("t = Sin(x) r = Add(x, t) y = LayerNormalization<axis = -1>(r, g, b)", shape, affine)
        yield text(
            f"{LN} g1 = Mul(n, g) y = Add(g1, b)", shape, f"float e = {{0.00001}}, int64[1] a = {{-1}}, {affine}"
        )
        if tokens > 1:
            column = f"float e = {{0.00001}}, int64[1] a = {{1}}, float[{tokens},1] g, float[{tokens},1] b"
            yield text(f"{LN} g1 = Mul(n, g) y = Add(g1, b)", shape, column)


def softmax() -> Iterator[onnx.ModelProto]:
    for rows, columns, axis in product((4, 16, 64, 256, 1024), (16, 64, 256, 1024), (1, 2)):
        yield text(SOFTMAX, f"1,{rows},{columns}", f"int64[1] a = {{{axis}}}")


def gelu() -> Iterator[onnx.ModelProto]:
    for rows, width, body in product((1, 16, 64, 256, 512), (64, 256, 1024, 3072), (TANH_GELU, ERF_GELU)):
        yield text(body, f"1,{rows},{width}", NUMBERS)


def parallel() -> Iterator[onnx.ModelProto]:
    for rows, inner, outs, count in product((1, 8, 32, 128), (64, 256, 768), (64, 256, 768), (2, 3)):
        weights = ", ".join(f"float[{inner},{outs}] w{i}, float[{outs}] b{i}" for i in range(count))
        layers = " ".join(
            f"m{i} = Gemm(x, w{i}, b{i}) s{i} = {f}(m{i})" for i, f in zip(range(count), ACTS, strict=False)
        )
        total = "y = Sum(" + ", ".join(f"s{i}" for i in range(count)) + ")"
        yield text(f"{layers} {total}", f"{rows},{inner}", weights, f"{rows},{outs}")


ACTS = ("Tanh", "Sigmoid", "Sin")


def composed() -> Iterator[onnx.ModelProto]:
    for rows, width, middle in product((1, 8, 64, 512), (128, 512, 1024), (96, 256, 768)):
        weights = f"float[{width},{middle}] w0, float[{middle}] b0, float[{middle},{width}] w1, float[{width}] b1"
        yield text("h = Gemm(x, w0, b0) y = Gemm(h, w1, b1)", f"{rows},{width}", weights)


def attention() -> Iterator[onnx.ModelProto]:
    for build, (width, heads), tokens in product(
        (bert, gpt), ((64, 4), (256, 4), (512, 8), (768, 12)), (16, 64, 128, 256)
    ):
        yield build(batch=1, tokens=tokens, width=width, heads=heads, depth=1, max_tokens=256)


def recurrent() -> Iterator[onnx.ModelProto]:
    for kind, units, steps, batch in product(("LSTM", "GRU", "RNN"), (8, 32, 128, 256), (4, 16), (1, 8)):
        yield layer(
            Cell(kind, inputs=units, units=units, gemm=True), form="unrolled", steps=steps, batch=batch, outputs="y"
        )


FAMILIES: dict[str, Callable[[], Iterator[onnx.ModelProto]]] = {
    f.__name__: f for f in (conv1d, norm, softmax, gelu, parallel, composed, attention, recurrent, conv2d)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--list", action="store_true", help="only say how many graphs there are")
    args = parser.parse_args()
    out = args.out or Path(fcc.tune.__file__).with_name(f"{args.target}.jsonl")
    for name in args.families.split(","):
        graphs = list(FAMILIES[name]())
        start, count, passes = time.perf_counter(), 0, set()
        for model in graphs if not args.list else []:
            done = fcc.compile(
                model, target=args.target, tune_seconds=SECONDS, table="/nonexistent/table", verify="off"
            )
            keep(done.measured, out)
            count += len(done.measured)
            passes |= {row.pass_name for row in done.measured}
        took = time.perf_counter() - start
        print(f"{name}: {len(graphs)} graphs, {count} rows, {took:.0f} s, {', '.join(sorted(passes))}", flush=True)


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main())
