"""``fcc MODEL``: compile a model, say what changed, write it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from fcc.errors import OptionError

from .command import SUBCOMMANDS, make
from .compile_options import arguments, params
from .failure import say
from .files import check_libraries, check_output, check_report, output_of, resolved, writable, write_text
from .logs import logging_to_stderr
from .progress import Progress
from .style import echo
from .supervise import limit_memory, out_of_memory, parse_memory, since_start, supervised
from .tune import keep, keeper
from .workload import Workload

_LEAST_S = 0.01
EXAMPLES = (
    "Subcommands (fcc NAME --help):\n"
    + "\n".join(f"  {name:<10} {text}" for name, text in SUBCOMMANDS.items())
    + "\n\nExit codes: 0 ok, 2 options, 3 load, 4 data or target, 5 pass, 6 parity, 7 save,\n"
    "8 limit, 70 bug, 130 interrupted."
)


@click.pass_context
def run(context: click.Context, /, model: str, **given: Any) -> int:
    """Compile an ONNX model into a smaller, faster, verified one for onnxruntime.

    \b
    fcc model.onnx                        -> model.fcc.onnx, for the CPU
    fcc model.onnx -o out.onnx --target cuda --precision fp16
    """
    keywords = arguments(given)
    memory = parse_memory(given["max_memory"])
    passed = since_start()
    if (memory is not None or given["timeout"] is not None) and passed is None:
        return supervised(context.obj.argv, given["timeout"], memory)
    if given["timeout"] is not None and passed is not None:
        keywords["timeout"] = max(given["timeout"] - passed, _LEAST_S)
    if memory is not None:
        limit_memory(memory)
    try:
        return _run(context, model, keywords, given)
    except MemoryError as error:
        raise out_of_memory(memory) or error from None


def _run(context: click.Context, model: str, keywords: dict[str, Any], given: dict[str, Any]) -> int:
    output = output_of(model, given["output"])
    _check(model, output, given)
    with logging_to_stderr(verbose=given["verbose"], debug=given["debug"]):
        with Progress(context.obj, quiet=given["quiet"]) as progress:
            compiled, untimed = _compile(model, keywords, given, progress)
            compiled.report.output = "" if given["dry_run"] else str(output)
            context.obj.check()
            if not given["dry_run"]:
                compiled.save(output)
            _write_report(compiled.report, given["report"], given["curve"])
            if given["plan"] is not None:
                write_text(Path(given["plan"]), compiled.plan.to_json() + "\n")
            if compiled.measured:
                keep(compiled.measured, keeper(given["table"]))
        _tell(compiled, given, untimed)
    return 0


def _check(model: str, output: Path, given: dict[str, Any]) -> None:
    """Check every path that will be written, before any work."""
    if model in SUBCOMMANDS and not Path(model).exists():
        raise click.UsageError(f"the subcommand {model} comes first: fcc {model} ...")
    if not given["dry_run"] and (given["output"] is not None or Path(model).is_file()):
        check_output(model, output)
    check_report(given["report"], Path(model), output)
    check_report(given["curve"], Path(model), output, option="--curve", kinds=(".svg",))
    if given["plan"] is not None:
        if resolved(given["plan"]) in (resolved(model), resolved(output)):
            raise OptionError(f"--plan {given['plan']} would overwrite a model", "choose another name")
        writable(Path(given["plan"]))
    check_libraries(given["custom_ops"])


def _compile(model: str, keywords: dict[str, Any], given: dict[str, Any], progress: Progress) -> tuple[Any, str]:
    """Return the compiled model, timed unless -q or --verify off was given, and why it was not timed."""
    import fcc

    from .passes_named import printers, resolved

    given["explain"] = keywords["explain"] = resolved(given["explain"], keywords)
    given["print_after"] = resolved(given["print_after"], keywords)
    compiled = fcc.compile(model, **keywords, progress=progress, instruments=printers(given["print_after"], echo))
    if given["quiet"] or given["verify"] == "off":
        return compiled, ""
    from .latency import timed

    progress("time", 0, 0)
    samples = given["data"] if given["data"] is not None else given["calibration"]
    provider = next(iter(compiled.provider_options), "CPUExecutionProvider")
    same = {k: keywords[k] for k in ("state", "opt_shapes", "seed", "threads", "custom_ops")}
    skip = given["data"] is None and given["skip_bad_data"]
    return compiled, timed(compiled, Workload(provider, samples, **same, skip_bad=skip))


def _write_report(report: Any, path: str | None, curve: str | None) -> None:
    """Write the report and the plot; a page shows the plot where both are asked for."""
    if curve is not None:
        write_text(Path(curve), report.to_svg())
    if path is None:
        return
    as_json = path.lower().endswith(".json")
    plot = "" if curve is None else quote(os.path.relpath(resolved(curve), resolved(path).parent))
    write_text(Path(path), report.to_json() + "\n" if as_json else report.to_markdown(plot))


def _tell(compiled: Any, given: dict[str, Any], untimed: str) -> None:
    from .explain import explain
    from .summary import skipped, summary, time_table

    report = compiled.report
    if given["quiet"]:
        for guilty in report.guilty:
            say("warning", f"rewrite {skipped(guilty)}")
        return
    for line in summary(report, verbose=given["verbose"], untimed=untimed):
        echo(line)
    for name in given["explain"]:
        for line in explain(name, compiled.log):
            echo(line)
    if given["time_passes"]:
        for line in time_table(report):
            echo(line)


command = make("fcc", run, params(), EXAMPLES)
