"""Which convolutions have int8 kernels on tensor cores that are faster than float ones (targets.md 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

NARROW = 16  # channels that a tensor core multiplies at once


def narrow_conv(outputs: int, inputs: int, kernel: Sequence[int], group: int, *, first: bool) -> str | None:
    """Return why a convolution of few channels gains nothing from int8, None where it does.

    ``inputs`` are the channels of one group; ``first``: it reads an input of the model.
    """
    if min(outputs, inputs) >= NARROW:
        return None
    if group > 1:
        held = outputs % 8 == 0 and min(kernel) >= 3
        return None if held else "a grouped convolution needs output channels in eights and a kernel of 3 or more"
    eights, wide = inputs % 8 == 0 or outputs % 8 == 0, first or max(inputs, outputs) >= NARROW
    held = eights and wide and len(set(kernel)) == 1
    return None if held else f"{inputs} channels in and {outputs} out are too few for tensor cores"
