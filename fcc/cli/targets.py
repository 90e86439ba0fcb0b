"""``fcc targets``: what can be compiled for, and what this machine can run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from .command import make
from .shared import debug_option
from .style import columns, echo, heading, item

PARAMS: list[click.Parameter] = [debug_option()]


def run(debug: bool) -> None:
    """List the targets: provider, opset window, precisions, and whether this machine can run them."""
    from fcc.runtime import available
    from fcc.target import get_target, targets

    here = available()
    specs = [get_target(name) for name in targets()]
    for line in _lines(specs, here):
        echo(line)


def _lines(specs: list[Any], here: tuple[str, ...]) -> Iterator[str]:
    rows = [("target", "provider", "opset", "precisions", "here")]
    for spec in specs:
        low, high = spec.opsets
        provider = spec.providers[0]
        rows.append((spec.name, provider, f"{low}-{high}", _precisions(spec), "yes" if provider in here else "no"))
    first, *rest = columns(rows, "<<<<<")
    yield heading(first)
    yield from rest
    if not here:
        yield item("note", 'onnxruntime is not installed: pip install "fcc[cpu]"')
    yield ""
    yield "  Compiling for a target does not need it here; verifying on it does."


def _precisions(spec: Any) -> str:
    return ", ".join(
        ["fp32", *(["fp16", "bf16"] if spec.name != "cpu" else []), *(["int8"] if spec.qdq is not None else [])]
    )


command = make("targets", run, PARAMS)
