"""ONNX's own backend tests (onnx.backend.test), one callable per model, for any backend."""

from __future__ import annotations

import random
import unittest
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

Case = Callable[[], None]


def conformance_cases(backend: Any) -> dict[str, Case]:
    """Return test name -> what runs it on the CPU and raises where the backend fails.

    The names are those of ONNX's suite. The first call in a process generates the models, which takes about 10 s.
    The light models write beneath the folder that the variable ONNX_MODELS names (default ~/.onnx/models).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy, where expected outputs are computed
        from onnx.backend.test import BackendTest

        groups = BackendTest(backend, __name__).test_cases.values()
    names = [(group, name) for group in groups for name in dir(group) if name.endswith("_cpu")]
    return {name: partial(_run, group, name) for group, name in sorted(names, key=lambda pair: pair[1])}


def _run(group: type[unittest.TestCase], name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(group(name), name)()


def failure(case: Case) -> tuple[str, str] | None:
    """Run a case and return None, or the kind of its failure ("skipped" where the backend says it is not for it)
    and the reason on one line."""
    try:
        case()
    except unittest.SkipTest as error:
        return "skipped", str(error)
    except Exception as error:
        return type(error).__name__, " ".join(str(error).split())[:300]
    return None


def sample(names: Iterable[str], count: int, seed: int, excluded: Mapping[str, Any] | None = None) -> list[str]:
    """Return ``count`` of the names that are not excluded, drawn by the seed, in order."""
    left = sorted(set(names) - set(excluded or ()))
    return sorted(random.Random(seed).sample(left, min(count, len(left))))
