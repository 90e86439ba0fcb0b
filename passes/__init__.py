"""The passes: one rewrite per file. Pipelines are data: the texts that ``fcc passes`` prints and --passes reads."""

if __name__ != "fcc.passes":
    raise ImportError("this folder is the package fcc.passes: import it by that name")

from collections.abc import Iterable, Sequence

from fcc.errors import OptionError, did_you_mean
from fcc.rewrite import Pass
from fcc.rewrite.pipeline import Pipeline, parse

from .eliminate_identity import EliminateIdentity

ALL_PASSES: tuple[type[Pass], ...] = (EliminateIdentity,)

BY_NAME: dict[str, type[Pass]] = {p.name: p for p in ALL_PASSES}

PIPELINES: dict[int, str] = {
    0: "",
    1: "fixpoint(eliminate-identity)",
    2: "fixpoint(eliminate-identity)",
}
PIPELINES[3] = PIPELINES[2]


def pipeline(
    level: int, text: str | None = None, disable: Iterable[str] = (), plugins: Sequence[Pass] = ()
) -> Pipeline:
    """Return the pipeline of an O-level, or the one ``text`` writes; plugins run first unless ``text`` names them.

    Raises:
        PipelineError: ``text`` does not parse.
        OptionError: ``disable`` names no pass.
    """
    known = {**BY_NAME, **{p.name: type(p) for p in plugins}}
    for name in disable:
        if name not in known:
            raise OptionError(f"no pass is named {name!r}", did_you_mean(name, known))
    found = parse(PIPELINES[level] if text is None else text, known)
    if text is None:
        found = Pipeline((*plugins, *found.steps))
    return found.without(disable)
