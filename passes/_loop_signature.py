"""The signature of a Loop or Scan that keeps some of what it carries, reads and stacks."""

from __future__ import annotations

from collections.abc import Sequence

from fcc import ir
from fcc.analysis.loops import Looped
from fcc.rewrite import Signature


def signature(
    loop: Looped,
    carried: Sequence[int],
    elements: Sequence[int],
    stacked: Sequence[int],
    added: Sequence[ir.Value] = (),
    entering: Sequence[tuple[ir.Value, ir.Value]] = (),
) -> Signature:
    """Return what stays, by the indices of carried values, scan inputs and scan outputs; ``added`` is stacked too.

    ``entering`` are further scan inputs, with the inputs of the body.

    A Loop has its bound and condition in front of what it carries, and its body a condition among the outputs.
    """
    fixed, decides = (2, 1) if loop.goes_on is not None else (0, 0)
    count = len(loop.carried)
    inputs = [*range(fixed), *(fixed + i for i in carried), *(fixed + count + i for i in elements)]
    outputs = [*carried, *(count + i for i in stacked)]
    return Signature(inputs, outputs, inputs, [*range(decides), *(decides + i for i in outputs)], added, entering)
