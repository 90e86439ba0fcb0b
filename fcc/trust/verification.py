"""fcc.verify: whether a file is what fcc makes of a source, byte for byte, and gives its answers."""

from __future__ import annotations

import filecmp
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..api import compile as compile_model
from ..backends.base import libraries
from ..compiled import CompiledModel
from ..errors import DataError, FccError, OptionError
from ..frontend import read
from ..parity import Judge, Verdict, metric
from ..provenance import Recalled, recall
from ..runtime.differences import differences, metadata_of
from ..trial import MIN_SQNR
from ..version import __version__

_SAID = {
    "calibration": "calibration data (--calibration)",
    "data": "the data it was judged on (--data)",
    "plugins": "passes of the user (--plugin)",
    "custom_ops": "a library of operators (--custom-ops)",
}


_UNKNOWN = "the file was changed after the compile, or made by a plan that is not given (--from-plan)"
_MEASURED = "choices were measured: its plan (--from-plan) or table (--table) has them"


@dataclass(frozen=True)
class Verification:
    """Whether ``output`` is what this fcc makes of ``source``.

    ``differs`` says in words what the file has that a compile does not give; ``causes`` what explains it (another
    source, version or library); both are empty when they are equal byte for byte. ``verdict``: parity of the file.
    """

    output: str
    source: str
    causes: tuple[str, ...]
    differs: tuple[str, ...]
    verdict: Verdict
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether the file is reproduced byte for byte."""
        return not self.differs

    @property
    def ok(self) -> bool:
        """Whether the file is reproduced, and gives the answers of its source."""
        return self.same and self.verdict.ok


def verify(
    output: str | os.PathLike[str],
    against: str | os.PathLike[str],
    *,
    progress: Callable[[str, int, int], None] | None = None,
    **given: Any,
) -> Verification:
    """Compile the source ``against`` as the metadata of ``output`` says, and compare the bytes; then judge parity.

    ``given``: what the file cannot hold, by the names of ``fcc.compile``: calibration, data, plan, plugins,
    custom_ops, table.

    Raises:
        LoadError: one of the files cannot be read.
        DataError: the file was not written by fcc, does not say how, or something that the compile had is not given.
        OptionError: something is given that the compile had not.
    """
    output, against = os.fspath(output), os.fspath(against)
    source = read(against)
    read(output)  # what is wrong with a file is said of the file
    meta = metadata_of(output)
    recalled = _recalled(output, meta)
    given = {name: value for name, value in given.items() if value not in (None, ())}
    _require(recalled, given)
    digest = source.source.digest() if source.source is not None else ""
    causes = list(_causes(meta, digest))
    try:
        compiled = compile_model(against, **{**recalled.options, **given}, progress=progress)
        differs = _differences(compiled, output)
    except FccError as error:
        if not causes:
            raise
        differs = [f"it does not compile now: {error.message}"]
    if differs and not causes:
        causes.append(_UNKNOWN if "fcc.table" not in meta or given.keys() & {"plan", "table"} else _MEASURED)
    verdict = _judge(output, against, recalled, given)
    notes = [*causes] if not differs else []
    return Verification(output, against, tuple(causes if differs else ()), tuple(differs), verdict, tuple(notes))


def _recalled(output: str, meta: Mapping[str, str]) -> Recalled:
    if "fcc.version" not in meta:
        raise DataError(f"{output} was not written by fcc", "fcc compare judges any two models")
    if "fcc.options" not in meta:
        raise DataError(f"{output} does not say how it was compiled (fcc {meta['fcc.version']})", "compile it again")
    recalled = recall(meta["fcc.options"])
    return replace(recalled, options={"target": meta.get("fcc.target", "cpu"), **recalled.options})


def _require(recalled: Recalled, given: Mapping[str, Any]) -> None:
    missing = [_SAID[n] for n in recalled.needs if n not in given]
    if missing:
        raise DataError(f"the compile had {' and '.join(missing)}: give it to verify", "the file cannot hold it")
    extra = [n for n in given if n in _SAID and n not in (*recalled.needs, "data", "custom_ops")]
    if extra:
        raise OptionError(f"the compile had no {_SAID[extra[0]]}", "leave it out")


def _causes(meta: Mapping[str, str], digest: str) -> Iterator[str]:
    """Yield what was not the same at the compile."""
    known = meta.get("fcc.source", "")
    if known and digest and known != digest:
        yield f"the source is another file: sha256 {digest[:12]} instead of {known[:12]}"
    if meta["fcc.version"] != __version__:
        yield f"fcc {meta['fcc.version']} wrote it, this is {__version__}"
    if meta.get("fcc.libraries", "") != libraries():
        yield f"it was written with {meta.get('fcc.libraries', 'unknown libraries')}, here is {libraries()}"


def _differences(compiled: CompiledModel, output: str) -> list[str]:
    """Return how a file differs from what a compile would write under its name."""
    with tempfile.TemporaryDirectory(prefix="fcc-") as folder:
        made, *data = compiled.save(str(Path(folder, Path(output).name)))
        found = [] if filecmp.cmp(made, output, shallow=False) else differences(made, output) or ["its bytes"]
        for path in data:
            there = Path(output).with_name(Path(path).name)
            if not there.is_file() or not filecmp.cmp(path, there, shallow=False):
                found.append(f"its data {there.name} " + ("differs" if there.is_file() else "is not there"))
        return found


def _judge(output: str, against: str, recalled: Recalled, given: Mapping[str, Any]) -> Verdict:
    """Judge the file as its compile was: by rounding, or by the budget where something lossy was asked for."""
    from ..options import Options
    from ..target import get_target

    options = Options(**recalled.options)
    data = given.get("data", given.get("calibration"))
    judge = Judge(
        against,
        read(against, shapes=options.shapes),
        data=data,
        state=options.state or None,
        seed=options.seed,
        provider=get_target(options.target).providers[0],
        custom_ops=given.get("custom_ops", ()),
    )
    if not options.lossy:
        return judge.judge(output)
    kind, budget = (metric(options.metric), options.budget) if options.budget else (metric("sqnr"), MIN_SQNR)
    return judge.judge(output, limit=float("inf")) if options.force else judge.judge(output, metric=kind, budget=budget)
