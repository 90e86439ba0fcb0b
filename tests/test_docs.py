"""The documentation is that of today's code."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from fcc import passes
from fcc.ir import Rewrite
from fcc.report import SCHEMA, LatencyRow, ParityRow, PassRow, Report, Size

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fcc_docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["passes.md", "cli.md"])
def test_generated_pages_are_up_to_date(generate: ModuleType, name: str) -> None:
    expected = generate.generated()[DOCS / name]
    assert (DOCS / name).read_text() == expected, "run: python docs/generate.py"


def test_every_pass_has_its_section() -> None:
    text = (DOCS / "passes.md").read_text()
    assert [p.name for p in passes.ALL_PASSES if f"\n## {p.name}\n" not in text] == []


def documented(text: str, title: str) -> set[str]:
    """Return the keys of the table under a heading."""
    section = re.split(r"^## ", text, flags=re.M)
    body = next(part for part in section if part.startswith(title))
    rows = re.findall(r"^\| (`.*?) \|", body, flags=re.M)
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("before, after", Size),
        ("passes", PassRow),
        ("rewrites", Rewrite),
        ("parity", ParityRow),
        ("latency", LatencyRow),
    ],
)
def test_report_page_has_every_field(title: str, kind: type) -> None:
    assert documented((DOCS / "report.md").read_text(), title) == {f.name for f in fields(kind)}


def test_report_page_has_every_key() -> None:
    text = (DOCS / "report.md").read_text()
    assert documented("## top\n" + text.partition("\n## ")[0], "top") == {"schema", *(f.name for f in fields(Report))}
    assert f"schema {SCHEMA}" in text


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
