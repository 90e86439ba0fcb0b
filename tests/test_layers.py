"""Imports point down the layer list of docs/architecture.md, and only the doors touch onnx and onnxruntime."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

LAYERS = [  # bottom first
    {"errors", "limits", "options", "plan", "plot", "provenance", "regular", "version"},
    {"ir"},
    {"frontend"},
    {"interop"},
    {"analysis"},
    {"target"},
    {"rewrite"},
    {"allocate", "compress"},
    {"passes"},
    {"backends"},
    {"data"},
    {"runtime"},
    {"parity", "tune"},
    {"search"},
    {"plugins", "report", "testing"},
    {"driver", "compiled", "resources"},
    {"trial", "account", "tuned", "refit"},
    {"recipe"},
    {"distill"},
    {"gauge", "changes", "allocation", "precisions"},
    {"decision"},
    {"steps"},
    {"lossy"},
    {"api"},
    {"trust"},
    {"cli", "onnx_backend", "__init__", "__main__"},
    {"fuzz"},
]
RANK = {name: i for i, layer in enumerate(LAYERS) for name in layer}
ONNX_DOORS = {"ir", "frontend", "interop", "backends", "runtime", "data", "testing", "fuzz", "onnx_backend"}
RUNTIME_DOORS = {"runtime"}


def sources() -> Iterator[tuple[str, Path]]:
    for top in ("fcc", "passes", "backends"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).parts
            if top == "fcc" and parts[1] in ("passes", "backends", "models"):
                continue
            yield (parts[1].removesuffix(".py") if top == "fcc" else top), path


def imported(path: Path, unit: str) -> Iterator[str]:
    """Absolute names of everything a file imports, also inside functions."""
    base = ["fcc", *path.relative_to(ROOT).with_suffix("").parts]
    if base[1] == "fcc":
        base = base[1:]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = base[: -node.level] if node.level else []
            name = ".".join([*package, *([node.module] if node.module else [])])
            yield name
            if name == "fcc":
                yield from (f"fcc.{a.name}" for a in node.names)


def test_every_unit_has_a_layer() -> None:
    assert {unit for unit, _ in sources()} <= set(RANK)


def test_imports_point_down() -> None:
    wrong = []
    for unit, path in sources():
        for name in imported(path, unit):
            parts = name.split(".")
            if parts[0] == "fcc" and len(parts) > 1 and parts[1] in RANK and RANK[parts[1]] > RANK[unit]:
                wrong.append(f"{path.relative_to(ROOT)} ({unit}) imports {name}")
    assert not wrong, "\n".join(wrong)


def test_only_the_doors_import_onnx() -> None:
    wrong = []
    for unit, path in sources():
        for name in imported(path, unit):
            top = name.split(".")[0]
            if top in ("onnx", "onnx_ir", "onnx_graphsurgeon") and unit not in ONNX_DOORS:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
            if top == "onnxruntime" and unit not in RUNTIME_DOORS and path.name != "build_tables.py":
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_siblings_are_imported_relatively() -> None:
    """Editors know passes/x.py and fcc/passes/x.py as two modules: an absolute import of a sibling would mix them."""
    wrong = []
    for unit, path in sources():
        if unit not in ("passes", "backends"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith(f"fcc.{unit}"):
                wrong.append(f"{path.relative_to(ROOT)} imports {node.module}")
    assert not wrong, "\n".join(wrong)


def test_no_module_is_too_long() -> None:
    long = {str(p.relative_to(ROOT)): n for _, p in sources() if (n := len(p.read_text().splitlines())) > 400}
    assert not long
