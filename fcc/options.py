"""Options of a compile: one frozen dataclass, the same names in Python and on the command line."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import OptionError, did_you_mean
from .limits import MAX_NODES

TARGETS = ("cpu", "cuda", "tensorrt")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int16", "int8-dynamic", "int8-weights", "int4")
HALVES = ("fp16", "bf16")
STATIC = ("int8", "int16")
SCHEMES = ("pow2",)
SIZES = ("int8", "fp16", "codebook")
VERIFY = ("off", "end", "each")
ISAS = ("avx2", "vnni", "arm", "native")
OBJECTIVES = ("latency", "size")
DISTILL: Mapping[str, float] = {"epochs": 24, "rate": 0.01}  # rate: step of Adam over the size of a weight
METRICS = ("rel", "agreement", "sqnr", "max_abs")


@dataclass(frozen=True)
class Options:
    """What a compile was asked to do; ``fcc.compile`` documents each field.

    ``allow_cuda_only`` permits operators that only the CUDA provider has; no rewrite makes one so far. ``tune_seconds``
    is the time for measuring choices that no table answers; ``table`` is a file of measurements (None: the user's, if
    there is one); ``plan`` is a plan to replay: a path, plain data or a Plan. ``cluster`` is the address of a Dask
    cluster, its Client, or a number of processes; ``cache`` the folder that keeps what calibration gathers ("on": the
    user's own). ``skip_bad_data`` leaves out files of a calibration folder that cannot be read or hold NaN. ``distill``
    holds ``epochs`` and ``rate``. A model of more than ``max_nodes`` nodes is refused, a compile of more than
    ``timeout`` seconds ended.
    """

    target: str = "cpu"
    opt_level: int = 2
    precision: str | None = None
    scheme: str | None = None
    size: str | None = None
    passes: str | None = None
    disable: tuple[str, ...] = ()
    low_rank: Mapping[str, float] | None = None
    prune: Mapping[str, float] | None = None
    calibration: Any = None
    data: Any = None
    state: Mapping[str, str] = field(default_factory=dict)
    budget: float | None = None
    metric: str = "rel"
    objective: str = "latency"
    shapes: Mapping[str, Any] | None = None
    opt_shapes: Mapping[str, Any] | None = None
    min_shapes: Mapping[str, Any] | None = None
    max_shapes: Mapping[str, Any] | None = None
    verify: str = "end"
    seed: int = 0
    plugins: tuple[Any, ...] = ()
    require_parity: bool = False
    strict: bool = False
    force: bool = False
    allow_growth: bool = False
    allow_cuda_only: bool = False
    custom_ops: tuple[str, ...] = ()
    cpu_isa: str = "avx2"
    threads: int = 1
    rewrite_limit: int | None = None
    explain: tuple[str, ...] = ()
    skip_bad_data: bool = False
    executor: Any = None
    cluster: Any = None
    cache: Any = None
    tune_seconds: float = 0.0
    table: str | None = None
    plan: Any = None
    distill: Mapping[str, float] | None = None
    max_nodes: int = MAX_NODES
    timeout: float | None = None

    def __post_init__(self) -> None:
        for name in ("disable", "plugins", "custom_ops", "explain"):
            object.__setattr__(self, name, several(getattr(self, name)))
        _among("target", self.target, TARGETS)
        _among("verify", self.verify, VERIFY)
        _among("cpu_isa", self.cpu_isa, ISAS)
        _among("objective", self.objective, OBJECTIVES)
        if self.precision is not None:
            _among("precision", self.precision, PRECISIONS)
        if self.scheme is not None:
            _among("scheme", self.scheme, SCHEMES)
            if self.precision not in STATIC and not (self.opt_level == 3 and self.precision is None):
                raise OptionError(f"scheme {self.scheme} is about static integers", "give --precision int8 with it")
        if self.size is not None:
            _among("size", self.size, SIZES)
        if self.opt_level not in (0, 1, 2, 3):
            raise OptionError(f"opt_level is 0, 1, 2 or 3, not {self.opt_level!r}")
        if ":" not in self.metric:
            _among("metric", self.metric, METRICS)
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise OptionError(f"budget is a positive share such as 0.01 or 1%, not {self.budget!r}")
        if not 0 <= self.tune_seconds < math.inf:
            raise OptionError(f"tune_seconds is a time of at least 0, not {self.tune_seconds!r}")
        if self.executor is not None and self.cluster is not None:
            raise OptionError("executor and cluster both say where calibration runs", "give one of them")
        if self.threads < 1:
            raise OptionError(f"threads is at least 1, not {self.threads}")
        if self.max_nodes < 1:
            raise OptionError(f"max_nodes is at least 1, not {self.max_nodes}")
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise OptionError(f"timeout is a positive time in seconds, not {self.timeout!r}")
        object.__setattr__(self, "distill", parse_distill(self.distill))
        for library in self.custom_ops:
            if not os.path.isfile(library):
                raise OptionError(f"custom_ops: {os.fspath(library)} is no file", "give the path of a shared library")
        if self.rewrite_limit is not None and self.rewrite_limit < 0:
            raise OptionError(f"rewrite_limit is at least 0, not {self.rewrite_limit}")

    @property
    def lossy(self) -> bool:
        """Whether the compile may move the outputs beyond rounding."""
        return self.opt_level == 3 or self.by_hand

    @property
    def by_hand(self) -> bool:
        """Whether a lossy step was named, rather than left to level 3."""
        steps = (self.size, self.low_rank, self.prune)
        return self.precision not in (None, "fp32") or any(step is not None for step in steps)


def several(given: Any) -> tuple[Any, ...]:
    """Return an option that may be given several times as a tuple; one value stands for itself."""
    if given is None:
        return ()
    many = isinstance(given, Iterable) and not isinstance(given, str | os.PathLike)
    return tuple(given) if many else (given,)


def _among(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise OptionError(f"{name} has no value {value!r}", did_you_mean(str(value), known))


def parse_budget(text: str | float | None) -> float | None:
    """Return a budget as a share: ``1%`` and ``0.01`` are the same.

    Raises:
        OptionError: the text is no number.
    """
    if text is None or isinstance(text, int | float):
        return None if text is None else float(text)
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise OptionError(f"budget is a share such as 0.01 or 1%, not {text!r}") from None


def parse_shapes(items: Sequence[str] | None, option: str = "shape") -> dict[str, Any] | None:
    """Return {input: (sizes...), symbol: size} from ``x=1x3x224x224`` and ``batch=1``.

    Raises:
        OptionError: an item is not written so.
    """
    if not items:
        return None
    found: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.rpartition("=")
        sizes = text.split("x")
        if not equals or not name or not all(s.isdigit() for s in sizes):
            raise OptionError(f"--{option} is written input=1x3x224x224 or symbol=1, not {item!r}")
        found[name] = int(text) if len(sizes) == 1 else tuple(map(int, sizes))
    return found


def parse_distill(given: bool | Mapping[str, float] | None) -> dict[str, float] | None:
    """Return {"epochs": n, "rate": r} from True or from some of them; False and None stay None.

    Raises:
        OptionError: another key, no whole number of epochs from 1 on, or a rate outside (0, 1).
    """
    if given is None or given is False:
        return None
    found = {**DISTILL, **({} if given is True else given)}
    good = set(found) == set(DISTILL) and _count(found["epochs"]) and _share(found["rate"])
    if not good:
        raise OptionError(f"distill takes epochs= of at least 1 and rate= between 0 and 1, not {given!r}")
    return {"epochs": int(found["epochs"]), "rate": float(found["rate"])}


def parse_low_rank(text: str | float | Mapping[str, float] | None) -> dict[str, float] | None:
    """Return {"ratio": r}, {"energy": e} or {"rank": k} from ``ratio=0.25``, a number (a ratio) or a mapping.

    Raises:
        OptionError: neither a ratio or energy in (0, 1) nor a rank of at least 1.
    """
    return _strength(
        "low_rank",
        text,
        {"ratio": _share, "energy": _share, "rank": _count},
        "ratio=0.25, energy=0.99 or rank=64",
        "ratio= or energy= between 0 and 1, or rank= of at least 1",
        "energy=0.99 keeps the smallest rank that holds 99 % of every layer",
    )


def parse_prune(text: str | float | Mapping[str, float] | None) -> dict[str, float] | None:
    """Return {"ratio": r} or {"energy": e} from ``ratio=0.5``, a number (a ratio) or a mapping.

    Raises:
        OptionError: no ratio or energy in (0, 1).
    """
    return _strength(
        "prune",
        text,
        {"ratio": _share, "energy": _share},
        "ratio=0.5 or energy=0.99",
        "ratio= or energy= between 0 and 1",
        "ratio=0.5 keeps half of the channels of every layer",
    )


def _strength(
    option: str,
    given: str | float | Mapping[str, float] | None,
    known: Mapping[str, Callable[[float], bool]],
    written: str,
    takes: str,
    hint: str,
) -> dict[str, float] | None:
    """Return how strongly to compress as {key: number}; a number alone is a ratio."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        found = {str(k): float(v) for k, v in given.items()}
    elif isinstance(given, int | float):
        found = {"ratio": float(given)}
    else:
        key, _, value = given.partition("=")
        try:
            found = {key: float(value)}
        except ValueError:
            raise OptionError(f"{option} is written {written}, not {given!r}") from None
    if len(found) != 1 or not all(known.get(key, _never)(value) for key, value in found.items()):
        raise OptionError(f"{option} takes {takes}, not {given!r}", hint)
    return found


def _share(number: float) -> bool:
    return 0 < number < 1


def _count(number: float) -> bool:
    return number >= 1 and number % 1 == 0


def _never(number: float) -> bool:
    return False
