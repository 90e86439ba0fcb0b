"""The table of variations, and instances of a graph drawn from it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onnx import ModelProto

from . import vary_data, vary_graph
from .draft import Draft

Variation = Callable[[Draft], bool]
VARIATIONS: Mapping[str, Variation] = {
    f.__name__: f
    for f in (
        vary_data.one_size,
        vary_data.one_dimension,
        vary_data.rank,
        vary_data.symbol,
        vary_data.known,
        vary_data.unknown,
        vary_data.element_type,
        vary_data.contents,
        vary_data.attribute_tensor,
        vary_graph.overridable,
        vary_graph.computed,
        vary_graph.shared,
        vary_graph.as_node,
        vary_graph.escape,
        vary_graph.used,
        vary_graph.alias,
        vary_graph.swap,
        vary_graph.operator,
        vary_graph.inserted,
        vary_graph.absent,
        vary_graph.opset,
        vary_graph.attribute,
        vary_graph.branch,
        vary_graph.loop,
    )
}
MOST = 3
LAST = frozenset({"branch", "loop"})  # onnxruntime trusts the operands of a Loop: what is put there must be right


@dataclass(frozen=True)
class Instance:
    """A model and how it came to be; ``sizes`` and ``ranks`` are what its new symbols and unknown shapes were."""

    model: ModelProto
    steps: tuple[str, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    ranks: Mapping[str, Sequence[int]] = field(default_factory=dict)


def instances(model: ModelProto, count: int, seed: str) -> Iterator[Instance | None]:
    """Yield seeded instances of a model, one to three variations away; None for one that has no types."""
    names = list(VARIATIONS)
    for k in range(count):
        rng = random.Random(f"{seed}:{k}")
        draft, steps = Draft(model, rng), []
        drawn = [rng.choice(names) for _ in range(rng.choice((1, 1, 2, 2, MOST)))]
        for name in sorted(drawn, key=lambda n: n in LAST):
            if VARIATIONS[name](draft):
                steps.append(name)
        try:
            yield Instance(draft.finish(), tuple(steps), dict(draft.sizes), dict(draft.ranks))
        except Exception:  # onnx's inference and onnxruntime refuse what is not valid
            yield None
