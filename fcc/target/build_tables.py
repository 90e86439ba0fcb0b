"""Write kernels_cpu.json, kernels_cuda.json and schemas.json from what one release of onnxruntime registers.

    python -m fcc.target.build_tables [--rows ROWS.json]

ROWS.json holds one object per kernel: provider, domain, op, since, until (null: unbounded), types (variable -> list).
Without it the rows come from ``get_all_opkernel_def()`` of the installed onnxruntime, which lists the providers of that
wheel only. Schemas always come from the installed onnxruntime and onnx.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = {"CPUExecutionProvider": "kernels_cpu.json", "CUDAExecutionProvider": "kernels_cuda.json"}
# Domains that onnxruntime's own layout transformations create; a model never holds them.
INTERNAL = frozenset({"com.ms.internal.nhwc", "com.microsoft.nchwc"})
UNBOUNDED = 2**31 - 1

Types = dict[str, frozenset[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="kernel rows dumped from another build")
    arguments = parser.parse_args()
    # Imported by name: only this maintainers' script, never the compiler, reads these from here.
    runtime = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    release = import_module("onnxruntime").__version__
    rows = json.loads(arguments.rows.read_text()) if arguments.rows else live_rows(runtime)
    for provider, file in FILES.items():
        own = [row for row in rows if row["provider"] == provider]
        if own:
            write(HERE / file, {"onnxruntime": release, "provider": provider, **compact(own)})
    schemas = schema_table(runtime.get_all_operator_schema(), import_module("onnx.defs").get_all_schemas_with_history())
    write(HERE / "schemas.json", {"onnxruntime": release, **schemas})


def live_rows(runtime: Any) -> list[dict[str, Any]]:
    """Return the kernels of the installed onnxruntime as rows."""
    rows = []
    for kernel in runtime.get_all_opkernel_def():
        since, until = kernel.version_range
        rows.append(
            {
                "provider": kernel.provider,
                "domain": kernel.domain,
                "op": kernel.op_name,
                "since": since,
                "until": None if until == UNBOUNDED else until,
                "types": kernel.type_constraints,
            }
        )
    return rows


def compact(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return {sets, kernels}: domain -> op -> [since, until, {variable: index into sets}], equal rows merged."""
    grouped: dict[tuple[str, str, int, int | None], list[Types]] = defaultdict(list)
    for row in rows:
        if row["domain"] in INTERNAL:
            continue
        types = {name: frozenset(map(short, listed)) for name, listed in row["types"].items()}
        grouped[row["domain"], row["op"], row["since"], row["until"]].append(types)
    interned: dict[tuple[str, ...], int] = {}
    kernels: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for (domain, op, since, until), group in sorted(grouped.items(), key=lambda item: (*item[0][:3], item[0][3] or 0)):
        for types in merged(group):
            indices = {n: interned.setdefault(tuple(sorted(t)), len(interned)) for n, t in sorted(types.items())}
            kernels[domain][op].append([since, until, indices])
    return {"sets": [list(names) for names in interned], "kernels": kernels}


def short(onnx_type: str) -> str:
    """Return ``float`` for ``tensor(float)``; sequences, optionals and maps keep their wrapper."""
    return onnx_type.replace("tensor(", "(").strip("()") if onnx_type.startswith("tensor(") else onnx_type


def merged(group: list[Types]) -> list[Types]:
    """Join rows that differ in one variable only, which keeps the set of accepted combinations."""
    rows = list(group)
    for variable in sorted({name for row in group for name in row}):
        joined: dict[Any, Types] = {}
        for row in rows:
            others = frozenset((name, types) for name, types in row.items() if name != variable)
            key = (others, variable in row)
            joined[key] = {**row, variable: row[variable] | joined.get(key, row)[variable]} if variable in row else row
        rows = list(joined.values())
    return rows


def schema_table(runtime_schemas: Iterable[Any], onnx_schemas: Iterable[Any]) -> dict[str, Any]:
    """Return {versions, functions}: domain -> op -> since-versions onnxruntime knows; those with a function body."""
    known: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for schema in runtime_schemas:
        if schema.domain not in INTERNAL:
            known[schema.domain][schema.name].append(schema.since_version)
    functions: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for schema in onnx_schemas:
        has_body = schema.has_function or schema.has_context_dependent_function
        if has_body and schema.since_version in known[schema.domain].get(schema.name, ()):
            functions[schema.domain][schema.name].append(schema.since_version)
    return {"versions": ordered(known), "functions": ordered(functions)}


def ordered(table: Mapping[str, Mapping[str, list[int]]]) -> dict[str, dict[str, list[int]]]:
    return {
        domain: {op: sorted(versions) for op, versions in sorted(ops.items())}
        for domain, ops in sorted(table.items())
        if ops
    }


def write(path: Path, table: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(table, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
