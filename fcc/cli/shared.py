"""Options that several commands have, and how their texts become values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from fcc.errors import OptionError

from .command import option

DATA = "Data and shapes"
SHOW = "What is printed"

MODEL = click.Argument(["model"], metavar="MODEL")


def data_option() -> click.Option:
    return option("--data", metavar="PATH", group=DATA, help="samples (.npz or a folder) for parity and timing")


def calibration_option(required: bool = False) -> click.Option:
    text = "samples to fit int8 and -O3 (.npz or a folder)"
    return option("--calibration", metavar="PATH", required=required, group=DATA, help=text)


def skip_bad_option() -> click.Option:
    text = "leave out calibration files that cannot be read or hold NaN"
    return option("--skip-bad-data", is_flag=True, group=DATA, help=text)


def cluster_option() -> click.Option:
    text = "calibrate on a Dask cluster (tcp://host:8786), or in N processes"
    return option("--cluster", metavar="ADDRESS|N", group=DATA, help=text)


def cache_option() -> click.Option:
    text = "keep what calibration gathers: a folder, on (the user's own) or off (off)"
    return option("--cache", metavar="DIR|on|off", group=DATA, help=text)


def state_option() -> click.Option:
    return option("--state", multiple=True, metavar="OUT:IN", group=DATA, help="output fed back as input, step by step")


def opt_shape_option() -> click.Option:
    text = "usual sizes: x=64x784 or batch=64; timed and modelled, the model stays as it is"
    return option("--opt-shape", "opt_shapes", multiple=True, metavar="X=SIZES", group=DATA, help=text)


def seed_option() -> click.Option:
    return option("--seed", type=int, default=0, metavar="N", group=DATA, help="seed of generated probes (0)")


def threads_option(group: str = "Options") -> click.Option:
    return option("--threads", type=int, default=1, metavar="N", group=group, help="threads of the runtime (1)")


def custom_ops_option(group: str = "Options") -> click.Option:
    text = "library of custom operators for onnxruntime"
    return option("--custom-ops", multiple=True, metavar="LIB", group=group, help=text)


def target_option(group: str = "Options", default: str | None = "cpu") -> click.Option:
    return option("--target", default=default, metavar="NAME", group=group, help="cpu (default), cuda or tensorrt")


def debug_option() -> click.Option:
    return option("--debug", is_flag=True, group=SHOW, help="log everything; traceback of an error")


def parse_state(items: Sequence[str]) -> dict[str, str]:
    """Return {output: input} from ``out:in``; names with colons split in the middle (``h:0:h0:0``).

    Raises:
        OptionError: not written so.
    """
    found = {}
    for text in items:
        parts = text.split(":")
        half = len(parts) // 2
        out, target = ":".join(parts[:half]), ":".join(parts[half:])
        if len(parts) % 2 or not out or not target:
            raise OptionError(f"--state is written out:in, not {text!r}")
        found[out] = target
    return found


def show_version(ctx: click.Context, param: click.Parameter, value: bool) -> Any:
    """Print the version and leave."""
    if value:
        from fcc import __version__

        click.echo(f"fcc {__version__}")
        ctx.exit()
