"""The options of ``fcc MODEL`` as a table, and the arguments of fcc.compile that they become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fcc.errors import OptionError
from fcc.limits import MAX_NODES
from fcc.options import parse_budget, parse_distill, parse_low_rank, parse_prune, parse_shapes

from .command import option
from .shared import (
    DATA,
    MODEL,
    SHOW,
    cache_option,
    calibration_option,
    cluster_option,
    custom_ops_option,
    data_option,
    debug_option,
    opt_shape_option,
    parse_state,
    seed_option,
    show_version,
    skip_bad_option,
    state_option,
    target_option,
    threads_option,
)

WHAT = "What to do"
PASSES = "Passes"
TRUST = "Trust"
TUNING = "Measured choices"


def _flag(name: str, group: str, text: str, **more: Any) -> click.Option:
    return option(name, is_flag=True, group=group, help=text, **more)


def _text(name: str, group: str, metavar: str, text: str, **more: Any) -> click.Option:
    return option(name, group=group, metavar=metavar, help=text, **more)


def params() -> list[click.Parameter]:
    """Return the parameters of the command, in the order of its help."""
    return [
        MODEL,
        option("-o", "--output", metavar="OUT", group=WHAT, help="where to write (NAME.fcc.onnx beside the model)"),
        option("-O", "opt_level", metavar="0|1|2|3", default="2", group=WHAT, help="level: -O0 to -O3 (-O2)"),
        target_option(WHAT),
        _text("--precision", WHAT, "TYPE", "fp32, fp16, bf16, int8, int16, int8-dynamic, int8-weights or int4"),
        _text("--scheme", WHAT, "NAME", "pow2: scales of static int8 are powers of two"),
        _text("--size", WHAT, "TYPE", "int8, fp16 or codebook: weights stored so, unpacked when the file is loaded"),
        _text("--low-rank", WHAT, "KEY=VALUE", "factorize layers: ratio=R, energy=E or rank=K"),
        _text("--prune", WHAT, "KEY=VALUE", "remove channels until ratio=R of them stay, or energy=E"),
        _flag("--distill", WHAT, "fine-tune what lossy steps left against the source (fcc[torch])"),
        option("--epochs", type=int, metavar="N", group=WHAT, help="most epochs of --distill (24)"),
        option("--rate", type=float, metavar="R", group=WHAT, help="step of --distill relative to a weight (0.01)"),
        _text("--budget", WHAT, "SHARE", "how far outputs may move: 1% or 0.01"),
        _text("--metric", WHAT, "NAME", "rel, agreement, sqnr, max_abs or file.py:function (rel)", default="rel"),
        _text("--objective", WHAT, "NAME", "latency or size, for -O3 (latency)", default="latency"),
        _text("--cpu-isa", WHAT, "NAME", "avx2, vnni, arm or native (avx2)", default="avx2"),
        _flag("--allow-growth", WHAT, "the output may be larger than the model"),
        _flag("--allow-cuda-only", WHAT, "operators that only the CUDA provider has"),
        custom_ops_option(WHAT),
        threads_option(WHAT),
        data_option(),
        calibration_option(),
        skip_bad_option(),
        cluster_option(),
        cache_option(),
        state_option(),
        _text("--shape", DATA, "X=SIZES", "bind sizes: x=1x3x224x224 or batch=1", multiple=True),
        opt_shape_option(),
        _text("--min-shape", DATA, "X=SIZES", "smallest sizes (TensorRT profile)", multiple=True),
        _text("--max-shape", DATA, "X=SIZES", "largest sizes (TensorRT profile)", multiple=True),
        seed_option(),
        _text("--verify", TRUST, "WHEN", "compare with the source: off, end or each (end)", default="end"),
        _flag("--require-parity", TRUST, "fail when the source cannot be compared"),
        _flag("--strict", TRUST, "fail where fcc would skip or fall back"),
        option("--timeout", type=float, metavar="S", group=TRUST, help="end the compile after S seconds, exit code 8"),
        _text("--max-memory", TRUST, "SIZE", "let it allocate no more than 900MB or 2GB, exit code 8"),
        option(
            "--max-nodes", type=int, default=MAX_NODES, metavar="N", group=TRUST, help="refuse larger models (300000)"
        ),
        _flag("--force", TRUST, "emit lossy results below 10 dB SQNR"),
        option(
            "--tune-seconds", type=float, default=0.0, metavar="S", group=TUNING, help="time to measure choices (0)"
        ),
        _text("--table", TUNING, "FILE", "measurements to use (the user's, by fcc tune)"),
        _text("--plan", TUNING, "FILE", "write the choices made"),
        _text("--from-plan", TUNING, "FILE", "make the choices that a plan holds"),
        _text("--passes", PASSES, "PIPELINE", "run these instead (see fcc passes)"),
        _text("--disable", PASSES, "PASS", "leave a pass out", multiple=True),
        _text("--plugin", PASSES, "FILE|MODULE", "passes of your own", multiple=True),
        _text("--explain", PASSES, "PASS", "where it applied, and why not elsewhere", multiple=True),
        _text("--print-after", PASSES, "PASS", "print the graph after a pass", multiple=True),
        _flag("--time-passes", PASSES, "print the time of every pass"),
        option("--rewrite-limit", type=int, metavar="N", group=PASSES, help="stop after N rewrites"),
        _text("--report", SHOW, "FILE", "write the report, .json or .md"),
        _text("--curve", SHOW, "FILE.svg", "draw error against cost of what -O3 tried"),
        _flag("--dry-run", SHOW, "do everything, write no model"),
        option("-v", "verbose", is_flag=True, group=SHOW, help="say more: lint, refusals, times"),
        option("-q", "quiet", is_flag=True, group=SHOW, help="say nothing, time nothing"),
        debug_option(),
        _flag("--version", SHOW, "print the version", callback=show_version, expose_value=False, is_eager=True),
    ]


_SAME = (
    *(
        "target",
        "precision",
        "scheme",
        "size",
        "objective",
        "metric",
        "verify",
        "seed",
        "passes",
        "calibration",
        "data",
        "skip_bad_data",
        "cluster",
        "cache",
        "cpu_isa",
    ),
    *("threads", "rewrite_limit", "require_parity", "strict", "force", "allow_growth", "allow_cuda_only"),
    *("tune_seconds", "table", "max_nodes", "timeout"),
)


def arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of fcc.compile for what was given.

    Raises:
        OptionError: a value cannot be read.
    """
    _no_empty(given)
    return {
        **{name: given[name] for name in _SAME},
        "opt_level": _level(given["opt_level"]),
        "budget": parse_budget(given["budget"]),
        "low_rank": parse_low_rank(given["low_rank"]),
        "prune": parse_prune(given["prune"]),
        "distill": _distill(given),
        "disable": given["disable"],
        "plan": given["from_plan"],
        "plugins": given["plugin"],
        "custom_ops": given["custom_ops"],
        "explain": given["explain"],
        "state": parse_state(given["state"]),
        "shapes": parse_shapes(given["shape"]),
        "opt_shapes": parse_shapes(given["opt_shapes"], "opt-shape"),
        "min_shapes": parse_shapes(given["min_shape"], "min-shape"),
        "max_shapes": parse_shapes(given["max_shape"], "max-shape"),
    }


def _no_empty(given: Mapping[str, Any]) -> None:
    """Refuse values that a shell variable which is not set leaves empty; an empty pass list runs no pass."""
    for name, value in given.items():
        if name != "passes" and (value == "" or (isinstance(value, tuple) and "" in value)):
            raise OptionError(f"--{name.removesuffix('s').replace('_', '-')} is given without a value")


def _distill(given: Mapping[str, Any]) -> dict[str, float] | None:
    wanted = {name: given[name] for name in ("epochs", "rate") if given[name] is not None}
    if wanted and not given["distill"]:
        raise OptionError(f"--{next(iter(wanted))} is an option of --distill", "add --distill")
    return parse_distill(wanted or True) if given["distill"] else None


def _level(text: str) -> int:
    if text not in ("0", "1", "2", "3"):
        raise OptionError(f"-O takes 0, 1, 2 or 3, not {text!r}", "-O2 is the default")
    return int(text)
