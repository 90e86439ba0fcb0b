"""Pipelines as data: ``a,b{option=1},fixpoint(c,d)`` parsed against the fields of the passes, and printed back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from ..errors import PipelineError, did_you_mean
from .base import Pass

_TOKEN = re.compile(r"\s*([A-Za-z0-9_.+-]+|[(){},=])")


@dataclass(frozen=True)
class Fixpoint:
    """Repeat the steps until none of them changes anything (at most ``rounds`` times)."""

    steps: tuple[Step, ...]
    rounds: int = 20

    def __str__(self) -> str:
        return f"fixpoint({','.join(map(str, self.steps))})"


Step = Pass | Fixpoint


@dataclass(frozen=True)
class Pipeline:
    """A list of passes and fixpoints."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.steps))

    def passes(self) -> Iterator[Pass]:
        """Yield every pass in order, those inside fixpoints once."""
        stack = list(reversed(self.steps))
        while stack:
            step = stack.pop()
            if isinstance(step, Fixpoint):
                stack.extend(reversed(step.steps))
            else:
                yield step

    def without(self, names: Iterable[str]) -> Pipeline:
        """Return the pipeline with some passes left out."""
        drop = frozenset(names)

        def keep(steps: tuple[Step, ...]) -> tuple[Step, ...]:
            kept: list[Step] = []
            for step in steps:
                if isinstance(step, Fixpoint):
                    inner = keep(step.steps)
                    if inner:
                        kept.append(Fixpoint(inner, step.rounds))
                elif step.name not in drop:
                    kept.append(step)
            return tuple(kept)

        return Pipeline(keep(self.steps))

    def split(self) -> tuple[Pipeline, Pipeline]:
        """Return the steps up to the first finishing pass, and that pass and what follows it."""
        at = next((i for i, s in enumerate(self.steps) if isinstance(s, Pass) and s.finishing), len(self.steps))
        return Pipeline(self.steps[:at]), Pipeline(self.steps[at:])

    def lean(self) -> Pipeline:
        """Return the pipeline with the options by which the file grows least (steps inside fixpoints stay)."""
        return Pipeline(tuple(s.lean() if isinstance(s, Pass) else s for s in self.steps))

    def then(self, *steps: Step) -> Pipeline:
        """Return the pipeline with steps added at the end."""
        return Pipeline(self.steps + steps)


def parse(text: str, known: Mapping[str, type[Pass] | Pass]) -> Pipeline:
    """Return the pipeline that ``text`` writes.

    Grammar: list := item ("," item)*; item := name ["{" key "=" value ("," key "=" value)* "}"] | "fixpoint(" list ")".

    Raises:
        PipelineError: a syntax error, an unknown pass or option, or a value of the wrong type.
    """
    tokens = _tokens(text)
    steps, rest = _parse_list(tokens, known)
    if rest:
        raise PipelineError(f"unexpected {rest[0]!r} in pass list {text!r}")
    return Pipeline(steps)


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise PipelineError(f"cannot read pass list {text!r} at {text[at:]!r}")
        tokens.append(match.group(1))
        at = match.end()
    return tokens


def _parse_list(tokens: list[str], known: Mapping[str, type[Pass] | Pass]) -> tuple[tuple[Step, ...], list[str]]:
    steps: list[Step] = []
    while tokens and tokens[0] != ")":
        step, tokens = _parse_item(tokens, known)
        steps.append(step)
        if tokens and tokens[0] == ",":
            tokens = tokens[1:]
        elif tokens and tokens[0] != ")":
            raise PipelineError(f"expected ',' before {tokens[0]!r} in the pass list")
    return tuple(steps), tokens


def _parse_item(tokens: list[str], known: Mapping[str, type[Pass] | Pass]) -> tuple[Step, list[str]]:
    name, tokens = tokens[0], tokens[1:]
    if name == "fixpoint" and tokens[:1] == ["("]:
        steps, tokens = _parse_list(tokens[1:], known)
        if tokens[:1] != [")"]:
            raise PipelineError("fixpoint( is not closed")
        return Fixpoint(steps), tokens[1:]
    if name not in known:
        raise PipelineError(f"no pass is named {name!r}", did_you_mean(name, known))
    options, tokens = _parse_options(name, tokens)
    return make(known[name], options), tokens


def _parse_options(name: str, tokens: list[str]) -> tuple[dict[str, str], list[str]]:
    if tokens[:1] != ["{"]:
        return {}, tokens
    if "}" not in tokens:
        raise PipelineError(f"options of {name!r} are not closed by '}}'")
    end = tokens.index("}")
    options: dict[str, str] = {}
    body = [t for t in tokens[1:end] if t != ","]
    for i in range(0, len(body), 3):
        if len(body[i : i + 3]) < 3 or body[i + 1] != "=":
            raise PipelineError(f"options of {name!r} are written key=value")
        options[body[i]] = body[i + 2]
    return options, tokens[end + 1 :]


def make(kind: type[Pass] | Pass, options: Mapping[str, str]) -> Pass:
    """Return a pass with options given as text, converted to the types of its fields; an instance gives the others.

    Raises:
        PipelineError: an option does not exist or its value has the wrong type.
    """
    hints = get_type_hints(kind if isinstance(kind, type) else type(kind)) if options else {}
    names = {f.name for f in fields(kind)}
    values: dict[str, Any] = {}
    for key, text in options.items():
        if key not in names:
            raise PipelineError(f"pass {kind.name!r} has no option {key!r}", did_you_mean(key, names))
        values[key] = _convert(text, hints[key], f"{kind.name}{{{key}}}")
    return kind(**values) if isinstance(kind, type) else replace(kind, **values)


def _convert(text: str, hint: Any, where: str) -> Any:
    kinds = [k for k in getattr(hint, "__args__", (hint,)) if k is not type(None)]
    if bool in kinds:
        if text.lower() not in ("true", "false", "0", "1"):
            raise PipelineError(f"{where} takes true or false, not {text!r}")
        return text.lower() in ("true", "1")
    for kind in (int, float, str):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    raise PipelineError(f"{where} does not take {text!r}")
