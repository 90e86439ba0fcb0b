"""Opset 27 and 28 -> 26, where every node means the same there."""

from __future__ import annotations

import onnx
import pytest
from onnx import parser
from onnx_ir import to_proto

from fcc import ir
from fcc.frontend import read


def module_of(text: str, opset: int = 28) -> ir.Module:
    return read(parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {text}'))


LOWERED = {
    "unchanged": "(float[3] x) => (float[3] y) { y = Relu(x) }",
    "more-types": "(float[3] x) => (int32[3] y) { y = Cast<to=6>(x) }",
    "inferred-type": "(float[3] x) => (int32[3] y) { a = Neg(x) y = Cast<to=6>(a) }",
    "variadic": '(float[3] x) => (float[3] y) { y = Einsum<equation="i,i,i->i">(x, x, x) }',
    "default-attribute": '(float[1,1,2,2] x) => (float[1,4,1,1] y) { y = SpaceToDepth<blocksize=2, mode="DCR">(x) }',
    "default-int": "(int64 a) => (int64[N] y) <int64 z = {0}, int64 d = {1}> { y = Range<stash_type=1>(z, a, d) }",
    "fewer-types": "(int32[3] x) => (int32 y) { y = ReduceLogSum<keepdims=0>(x) }",
    "mod-integers": "(int32[3] x) => (int32[3] y) { y = Mod(x, x) }",
    "mod-floats": "(float[3] x) => (float[3] y) { y = Mod<fmod=1>(x, x) }",
    "shift": '(uint8[1] x) => (uint8[1] y) <uint8[1] n = {7}> { y = BitShift<direction="LEFT">(x, n) }',
    "nested": "(bool c, float[3] x) => (int32[3] y) { y = If(c) <then_branch = t () => (a) { a = Cast<to=6>(x) },"
    " else_branch = e () => (b) { b = Cast<to=6>(x) }> }",
}


@pytest.mark.parametrize("name", LOWERED)
def test_lowered(name: str) -> None:
    module = module_of(LOWERED[name])
    assert module.notes == []
    assert module.opset() == 26
    onnx.checker.check_model(to_proto(module.model), full_check=True)


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("(bfloat16[3] x, bool[3] c) => (bfloat16[N] y) { y = Compress(x, c) }", "takes no tensor(bfloat16) as input"),
        ("(float[3] x) => (float[3] y) { y = Mod(x, x) }", "divides floats with fmod=0"),
        ('(uint8[1] x) => (uint8[1] y) <uint8[1] n = {8}> { y = BitShift<direction="LEFT">(x, n) }', "width of its type"),
        ('(uint8[1] x, uint8[1] n) => (uint8[1] y) { y = BitShift<direction="LEFT">(x, n) }', "width of its type"),
        (
            '(float[1,1,2,2] x) => (float[1,4,1,1] y) { y = SpaceToDepth<blocksize=2, mode="CRD">(x) }',
            "no attribute mode before opset 28",
        ),
        ("(float[2,4] x) => (float[2,4] y) { y = SwiGLU(x, x) }", "is new in opset 28"),
        (
            "(bool c, float[3] x) => (float[3] y) { y = If(c) <then_branch = t () => (a) { a = Mod(x, x) },"
            " else_branch = e () => (b) { b = Neg(x) }> }",
            "divides floats",
        ),
    ],
)  # fmt: skip
def test_kept(text: str, because: str) -> None:
    module = module_of(text)
    assert module.opset() == 28
    (note,) = module.notes
    assert note.startswith("opset 28 is kept: node ")
    assert because in note


def test_unknown_types_keep_the_opset() -> None:
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 28, "other" : 1]> g (float[3] x) => (int32[3] y)'
        " { a = other.F(x) y = Cast<to=6>(a) }"
    )
    module = read(proto)
    assert module.opset() == 28
    assert "of unknown type" in module.notes[0]


def test_functions_that_stay_keep_the_opset() -> None:
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 28, "own" : 1]> g (float[3] x) => (float[3] y) { y = own.F(x) }'
        ' <domain: "own", opset_import: ["" : 30]> F (a) => (b) { b = Relu(a) }'
    )
    module = read(proto)
    assert module.opset() == 28
    assert any("functions of its own" in note for note in module.notes)


@pytest.mark.parametrize("opset", [13, 26])
def test_what_passes_know_is_kept(opset: int) -> None:
    assert module_of("(float[3] x) => (float[3] y) { y = Relu(x) }", opset).opset() == opset
