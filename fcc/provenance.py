"""What an output tells of its compile: the options that decide its bytes, as text in its metadata, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import OptionError
from .options import Options

_PLAIN = (
    *("target", "opt_level", "precision", "size", "passes", "disable", "low_rank", "prune", "state", "budget"),
    *("metric", "objective", "shapes", "opt_shapes", "min_shapes", "max_shapes", "verify", "seed", "force"),
    *("allow_growth", "allow_cuda_only", "cpu_isa", "rewrite_limit", "distill", "scheme"),
)
_SIZES = frozenset({"shapes", "opt_shapes", "min_shapes", "max_shapes"})
_OBJECTS = ("calibration", "data", "plugins", "custom_ops")
_NEEDS = "needs"


@dataclass(frozen=True)
class Recalled:
    """The options of a compile, without what cannot be written down; ``needs`` names that: data, plugins, libraries."""

    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


def record(options: Options, pipeline: str | None = None) -> str:
    """Return the options that are not the defaults and decide the bytes of an output, as one line of JSON.

    ``pipeline`` is that of the level, which ``passes`` need not repeat. Files and objects are named, not held. A plan
    is not: a replay gives the bytes of the compile that wrote it.
    """
    defaults = Options()
    found = {n: getattr(options, n) for n in _PLAIN if getattr(options, n) != getattr(defaults, n)}
    if options.passes is not None and options.passes == pipeline:
        del found["passes"]
    needs = {n for n in _OBJECTS if getattr(options, n) not in (None, ())}
    if needs:
        found[_NEEDS] = sorted(needs)
    return json.dumps(found, sort_keys=True, separators=(",", ":"), default=_plain)


def recall(text: str) -> Recalled:
    """Return the options that ``record`` wrote.

    Raises:
        OptionError: it wrote something else.
    """
    try:
        found = dict(json.loads(text))
        needs = tuple(found.pop(_NEEDS, ()))
        unknown = next((n for n in found if n not in _PLAIN), next((n for n in needs if n not in _OBJECTS), None))
        if unknown is not None:
            raise ValueError(f"unknown option {unknown!r}")
        return Recalled({n: _read(n, v) for n, v in found.items()}, needs)
    except (ValueError, TypeError, AttributeError) as error:
        raise OptionError(f"fcc.options cannot be read: {error}", "another version of fcc wrote it") from None


def _plain(value: Any) -> Any:
    """Return numbers of NumPy and mappings as JSON knows them."""
    return dict(value) if isinstance(value, Mapping) else value.item()


def _read(name: str, value: Any) -> Any:
    if name in _SIZES:
        return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
    return tuple(value) if name == "disable" else value
