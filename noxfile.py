"""The matrix of supported versions: ``nox`` runs all of it, ``nox -s "tests-3.12(newest)"`` one cell.

Every Python from 3.11 to 3.13 with the newest of every dependency that is on the index, and Python 3.11 with the oldest
that pyproject.toml allows, so that the ranges stated there are what is tested. ``nox -s tests -- tests/frontend`` runs
a part; ``sample`` is the part that meets the dependencies most: frontend, IR, emission and ONNX's own suite.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nox

PYTHONS = ("3.11", "3.12", "3.13")
OLDEST = "3.11"
SAMPLE = (
    "tests/ir",
    "tests/frontend",
    "tests/backends",
    "tests/runtime",
    "tests/test_api.py",
    "tests/test_onnx_backend.py",
)
nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True


def oldest() -> list[str]:
    """Return what pyproject.toml requires, pinned to the oldest release that it allows."""
    project = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["cpu"]]
    return [re.sub(r">=", "==", line) for line in required]


@nox.session(python=PYTHONS)
@nox.parametrize("versions", ["newest", "oldest"], ids=["newest", "oldest"])
def tests(session: nox.Session, versions: str) -> None:
    """Run the suite with the newest or the oldest dependencies."""
    if versions == "oldest" and session.python != OLDEST:
        session.skip(f"the oldest releases are tested on Python {OLDEST}")
    session.install("-e", ".[test]", *(oldest() if versions == "oldest" else ()))
    chosen = SAMPLE if session.posargs == ["sample"] else session.posargs
    # old runtimes die of some models that are drawn for the newest
    without = (
        ("--ignore", "tests/test_fuzz.py", "--ignore", "tests/passes/test_varied.py") if versions == "oldest" else ()
    )
    session.run("python", "-P", "-m", "pytest", "-q", *chosen, *without)
