"""Numbers, columns, names of outputs, option texts."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcc.cli.explain import explain
from fcc.cli.files import output_of
from fcc.cli.reasons import general, grouped
from fcc.cli.shared import parse_state
from fcc.cli.style import change, columns, count, duration, item, size
from fcc.cli.summary import skipped, summary
from fcc.errors import OptionError
from fcc.report import LatencyRow, Report, Size
from fcc.rewrite import Log


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0"), (9999, "9999"), (10000, "10.00 k"), (52650, "52.65 k"), (1234567, "1.235 M"), (2.5e9, "2.500 G")],
)
def test_count(n: float, text: str) -> None:
    assert count(n) == text


def test_size_and_duration() -> None:
    assert [size(12), size(213_200), size(5e12)] == ["12 B", "213.2 kB", "5.000 TB"]
    assert [duration(7.9), duration(105.2), duration(1500), duration(2.5e6)] == [
        "7.90 us",
        "105 us",
        "1.50 ms",
        "2.50 s",
    ]


def test_change() -> None:
    assert [change(10, 8), change(1000, 1001), change(5, 5), change(0, 7)] == ["-20 %", "+0.1 %", "", ""]
    assert [change(1e6, 999_999), change(1, 1.04, least=5), change(1, 1.06, least=5)] == ["", "", "+6.0 %"]


def test_columns_align_and_never_cut_outside_a_terminal() -> None:
    rows = [("name", "n"), ("x" * 200, "12")]
    assert list(columns(rows, "<>")) == [f"  {'name':<200}   n", f"  {'x' * 200}  12"]


@given(st.text(alphabet="ab c", max_size=300))
def test_items_fit_80_columns(text: str) -> None:
    lines = item("label", text).splitlines()
    words = max((len(w) for w in text.split()), default=0)
    assert all(len(line) <= max(80, 11 + words) for line in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(f"label {text}".split())


@pytest.mark.parametrize(
    ("model", "output"),
    [("a.onnx", "a.fcc.onnx"), ("d/a.onnx", "d/a.fcc.onnx"), ("a.pb", "a.pb.fcc.onnx"), ("./bench", "bench.fcc.onnx")],
)
def test_output_is_beside_the_model(model: str, output: str) -> None:
    assert output_of(model, None) == Path(output)
    assert output_of(model, "x.onnx") == Path("x.onnx")


def test_state_names_may_hold_colons() -> None:
    assert parse_state(["h:h0", "a:0:b:0"]) == {"h": "h0", "a:0": "b:0"}


@pytest.mark.parametrize("text", ["", "h", ":h", "h:", "a:b:c"])
def test_state_that_names_no_pair(text: str) -> None:
    with pytest.raises(OptionError, match="out:in"):
        parse_state([text])


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("expected MatMul, found Add '/m/Add_3'", "expected MatMul, found Add"),
        ("operand 'c' is not constant", "operand 'c' is not constant"),
        ("'/m/x' has other users", "a value has other users"),
        ("it mixes the channels (Reshape 'r_2')", "it mixes the channels (Reshape)"),
        ("the rank differs", "the rank differs"),
    ],
)
def test_reasons_without_names(reason: str, text: str) -> None:
    assert general(reason) == text


def test_reasons_that_differ_in_names_are_one() -> None:
    assert grouped([("found Add 'a_1'", 2), ("else", 4), ("found Add 'a_2'", 3)]) == [("found Add", 5), ("else", 4)]


def test_explain_groups_sites_and_puts_the_nearest_first() -> None:
    log = Log(explain=frozenset({"p"}))
    for site in ("a", "b", "c", "d", "a"):
        log.refuse("p", site, f"found Add 'n_{site}'", 1)
    log.refuse("p", "e", "the weight has 'other' users", 3)
    log.refuse("p", "done", "not yet", 1)
    log.apply("p", "done", [], [])
    text = click.unstyle("\n".join(explain("p", log))).strip()
    assert [line.rstrip() for line in text.splitlines()] == [
        "p: 1 rewrite, 5 sites left alone (nearest first)",
        "  applied  done: -> nothing",
        "  left     the weight has 'other' users",
        "           at e",
        "  left     found Add",
        "           at a",
        "           at b",
        "           at c",
        "              and 1 more site",
    ]


@pytest.mark.parametrize(
    ("ratio", "noise", "text"), [(1.02, 0.0, "same"), (0.8, 0.01, "-20 %"), (0.8, 0.1, "unclear"), (1.2, 0.05, "+20 %")]
)
def test_latency_is_told_only_when_it_is_sure(ratio: float, noise: float, text: str) -> None:
    size = Size(1, 1, 1, 1, 1)
    report = Report(before=size, after=size, latency=LatencyRow("CPU", 10.0, 10 * ratio, ratio, noise))
    (line,) = [row for row in summary(report) if row.startswith("  latency")]
    assert line.endswith(f"  {text}")


def test_a_pass_that_failed_outside_any_site_is_told_without_one() -> None:
    assert skipped({"pass_name": "p", "site": "", "reason": "IndexError"}) == "p was left out: IndexError"
    assert skipped({"pass_name": "p", "site": "y"}) == "p at y was left out: it moved the outputs"


def test_names_cannot_move_the_cursor() -> None:
    from fcc.cli.style import heading, printable

    name = "a\x1b[2J\x9b\u202e\u2028\rb"
    assert printable(name) == "a\\x1b[2J\\x9b\\u202e\\u2028\\rb"
    assert printable("x" * 100, 10) == "xxxxx...xxxxx"
    assert list(columns([(name, "1")], "<>")) == [f"  {printable(name)}  1"]
    assert len(next(columns([("x" * 10**6, "1")], "<>"))) < 400
    assert item("note", name) == "  note     a\\x1b[2J\\x9b\\u202e b"
    assert printable(name) in heading(name)


def test_what_is_printed_keeps_its_colors_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    from fcc.cli.style import echo

    echo("a\x1b[2J\n\x1b[1mb\x1b[0m\t\n")
    assert capsys.readouterr().out == "a\\x1b[2J\nb\\t\n\n"
