"""The table of measurements: rows found again exactly, or near."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcc.errors import DataError
from fcc.tune.machine import cpu_class
from fcc.tune.table import Row, Table, elements, load, shipped, structure, user_table

CLASSES = ("avx2", "avx512")


def text(rows: int, inner: int, out: int, op: str = "Gemm<alpha=1.0>") -> str:
    return (
        f"f (float[{rows},{inner}] x0) => (float[{rows},{out}] y0) <float[{inner},{out}] c0, int64[2] c1 = {{0, {out}}}> "
        f"{{ y0 = {op}(x0, c0) }}"
    )


def row(before: str, ratio: float, after: str = "", **changed: str) -> Row:
    made = Row("p", before, after or before, 21, ratio, 0.01, 50.0, "cpu", "avx2", "1.31")
    return replace(made, **changed)  # type: ignore[arg-type]


def test_the_nearest_class_answers_and_of_its_runtimes_the_newest() -> None:
    a = text(1, 8, 8)
    table = Table.of(
        [row(a, 0.5, cpu="avx512"), row(a, 0.7, runtime="1.9"), row(a, 0.8, runtime="1.10"), row(a, 0.1, cpu="arm64")]
    )
    found = table.exact("cpu", CLASSES, a, a)
    assert found is not None
    assert found.ratio == 0.8
    other = table.exact("cpu", ("avx512",), a, a)
    assert other is not None
    assert other.ratio == 0.5
    assert table.exact("cpu", (), a, a) is None
    assert table.exact("cuda", CLASSES, a, a) is None
    assert table.exact("cpu", CLASSES, a, text(1, 8, 9)) is None


def test_a_later_row_replaces_an_earlier_one() -> None:
    a = text(1, 8, 8)
    table = Table.of([row(a, 0.5), row(a, 0.6)])
    found = table.exact("cpu", CLASSES, a, a)
    assert len(table.rows) == 1
    assert found is not None
    assert found.ratio == 0.6
    assert table.near("p", "cpu", CLASSES, a, a) == pytest.approx(0.6)


def test_structure_leaves_sizes_out_and_nothing_else() -> None:
    assert structure(text(1, 8, 8)) == structure(text(64, 512, 2048))
    assert structure(text(1, 8, 8)) != structure(text(1, 8, 8, "Gemm<alpha=2.0>"))
    assert structure("f (float[2] x0)") != structure("f (float[2,2] x0)")
    assert structure("<int64[2] c0 = {0, 64}>") == structure("<int64[2] c0 = {0, 128}>")
    assert structure("<int64[1] c0 = {-1}>") != structure("<int64[1] c0 = {1}>")


def test_near_rows_answer_by_their_closeness() -> None:
    table = Table.of([row(text(64, 256, 256), 0.5), row(text(64, 256, 512), 0.9)])

    def near(t: str) -> float | None:
        return table.near("p", "cpu", CLASSES, t, t)

    assert near(text(64, 256, 256)) == pytest.approx(0.5, rel=0.06)
    between = near(text(64, 256, 362))
    assert between is not None
    assert 0.6 < between < 0.75
    assert near(text(64, 256, 1100)) is None  # more than an octave away
    assert near(text(1, 256, 256)) is None  # a batch of one is its own octave
    assert near(text(64, 256, 256, "MatMul")) is None
    assert table.near("q", "cpu", CLASSES, text(64, 256, 256), text(64, 256, 256)) is None


@given(st.lists(st.tuples(st.integers(2, 64), st.floats(0.1, 3.0)), min_size=1, max_size=6))
def test_near_stays_within_what_was_measured(rows: list[tuple[int, float]]) -> None:
    table = Table.of([row(text(4, 8, n), ratio) for n, ratio in rows])
    found = table.near("p", "cpu", CLASSES, text(4, 8, 16), text(4, 8, 16))
    ratios = [r.ratio for r in table.rows.values()]
    assert found is None or min(ratios) * 0.999 <= found <= max(ratios) * 1.001


def test_a_file_gives_the_table_back(tmp_path: Path) -> None:
    table = Table.of([row(text(4, 8, n), 0.5 + n / 100) for n in (9, 8, 7)])
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f"{line}\n" for line in table.lines()))
    again = load(path)
    assert again.rows == table.rows
    assert again.digest == table.digest != ""
    assert Table().digest == ""
    assert again.knows("cpu", "p")
    assert not again.knows("cpu", "q")


@pytest.mark.parametrize("line", ["no json", "[]", "{}", json.dumps({**asdict(row(text(1, 2, 2), 0.5)), "ratio": 0.0})])
def test_a_line_that_is_no_measurement_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(DataError, match=r"t\.jsonl:2"):
        load(path)


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none"):
        load(tmp_path / "none")


def test_where_the_users_table_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCC_TABLE", "/x/t")
    assert user_table() == Path("/x/t")
    monkeypatch.delenv("FCC_TABLE")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert user_table() == Path("/data/fcc/table.jsonl")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/u")
    assert user_table() == Path("/home/u/.local/share/fcc/table.jsonl")


def test_elements_count_what_is_touched() -> None:
    assert elements("f (float[2,3] x0) => (float y0) <int64[2] c0 = {5, 7}> { }") == 6 + 1 + 2


def test_the_class_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    info = tmp_path / "cpuinfo"
    for flags, expected in {
        "avx avx2": "avx2",
        "avx2 avx_vnni": "avx2+vnni",
        "avx2 avx512f": "avx512",
        "avx2 avx512f avx512_vnni": "avx512+vnni",
        "sse2": "x86_64",
    }.items():
        info.write_text(f"processor : 0\nflags\t\t: fpu {flags}\n")
        assert cpu_class(info) == expected
    assert cpu_class(tmp_path / "none") == "x86_64"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert cpu_class(info) == "arm64"


def test_a_target_without_a_shipped_table_has_an_empty_one() -> None:
    assert shipped("nowhere").rows == {}
