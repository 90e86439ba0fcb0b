"""Which kernels an onnxruntime provider has: tables dumped from the runtime by ``build_tables``, looked up here."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Verdict = Literal["native", "expanded", "refused"]


@dataclass(frozen=True, slots=True)
class Support:
    """How a target runs an op: by a kernel, by expanding the op's ONNX function body, or not at all (and why)."""

    verdict: Verdict
    reason: str = ""

    @property
    def refusal(self) -> str | None:
        """The reason when the op is refused, else None."""
        return self.reason if self.verdict == "refused" else None


NATIVE = Support("native")

# Ops of the default domain that need no kernel: onnxruntime turns them into initializers when it loads a model.
_LOADED = frozenset({"Constant"})


@dataclass(frozen=True, slots=True)
class Kernel:
    """One registered kernel: the versions of the op it covers and the dtypes each variable may take."""

    since: int
    until: int | None
    types: Mapping[str, frozenset[str]]

    def covers(self, version: int) -> bool:
        """Whether the runtime picks it for an op of this since-version.

        An unbounded kernel serves only the exact version it was registered for (KernelRegistry, onnxruntime): MaxPool
        of opset 22 has no CUDA kernel although one is registered from 12 on.
        """
        return self.since == version or (self.until is not None and self.since < version <= self.until)

    def takes(self, dtypes: Mapping[str, str]) -> bool:
        """Whether every variable of ``dtypes`` that it constrains is one of its types."""
        return all(dtypes[name] in allowed for name, allowed in self.types.items() if name in dtypes)


@dataclass(frozen=True)
class KernelTable:
    """The kernels of one provider, decoded one op at a time from rows [since, until, {variable: index into sets}]."""

    label: str
    rows: Mapping[str, Mapping[str, list[Any]]] = field(repr=False)
    sets: tuple[frozenset[str], ...] = field(repr=False)

    def kernels(self, op_type: str, domain: str = "") -> list[Kernel]:
        """Return the kernels of an op, oldest first."""
        rows = self.rows.get(domain, {}).get(op_type, ())
        return [Kernel(since, until, {n: self.sets[i] for n, i in types.items()}) for since, until, types in rows]

    def refusal(self, op_type: str, domain: str, version: int, dtypes: Mapping[str, str]) -> str | None:
        """Return None when a kernel takes the op with these dtypes, else the reason in words.

        ``version`` is the op's since-version or any opset version of its domain; ``dtypes`` maps the type variables of
        the schema (or the name of an input) to element types, {"T": "float16"}, or for other than tensors to ONNX type
        strings, {"S": "seq(tensor(float))"}. What is not given is not judged.
        """
        if not domain and op_type in _LOADED:
            return None
        name = f"{domain}::{op_type}" if domain else op_type
        listed = self.kernels(op_type, domain)
        if not listed:
            return f"no {self.label} kernel for {name}"
        version = since_version(op_type, domain, version)
        covering = [kernel for kernel in listed if kernel.covers(version)]
        if not covering:
            return f"no {self.label} kernel for {name} of opset {version} (has {_versions(listed)})"
        if any(kernel.takes(dtypes) for kernel in covering):
            return None
        return f"{self.label} kernel of {name} takes {_mismatch(covering, dtypes)}"


def _versions(kernels: Iterable[Kernel]) -> str:
    """Return the versions covered, as ``1-7, 12``."""
    spans = sorted({(kernel.since, kernel.until or kernel.since) for kernel in kernels})
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _mismatch(kernels: list[Kernel], dtypes: Mapping[str, str]) -> str:
    """Say which variable has a dtype that no kernel takes, or that the combination is the fault."""
    for name, dtype in dtypes.items():
        allowed = {t for kernel in kernels for t in kernel.types.get(name, frozenset({dtype}))}
        if dtype not in allowed:
            return f"{', '.join(sorted(allowed))}, not {dtype} ({name})"
    return "no combination " + ", ".join(f"{name}={dtype}" for name, dtype in dtypes.items())


@cache
def kernel_table(label: str) -> KernelTable:
    """Return the table of a provider, ``CPU`` or ``CUDA``; read once (1 ms), immutable."""
    raw = read(f"kernels_{label.lower()}.json")
    return KernelTable(label, raw["kernels"], tuple(map(frozenset, raw["sets"])))


def since_version(op_type: str, domain: str, version: int) -> int:
    """Return the since-version by which onnxruntime knows the op at this opset version.

    A version newer than the runtime's own schema falls to the newest one it has; an op it does not know keeps the
    version given.
    """
    versions = _schemas()["versions"].get(domain, {}).get(op_type, ())
    position = bisect_right(versions, version)
    return int(versions[position - 1]) if position else version


def has_function(op_type: str, domain: str, version: int) -> bool:
    """Whether ONNX defines the op, at this version, by a body of other ops."""
    listed = _schemas()["functions"].get(domain, {}).get(op_type, ())
    return since_version(op_type, domain, version) in listed


@cache
def _schemas() -> Mapping[str, Any]:
    return read("schemas.json")


def read(name: str) -> dict[str, Any]:
    """Return a data file of this package."""
    table: dict[str, Any] = json.loads(files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return table
