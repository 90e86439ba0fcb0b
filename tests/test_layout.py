"""The folders, the package list and the guards agree."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_package_list_is_the_folders() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set()
    for top, prefix in (("fcc", "fcc"), ("passes", "fcc.passes"), ("backends", "fcc.backends")):
        for init in (ROOT / top).rglob("__init__.py"):
            inside = init.parent.relative_to(ROOT / top).parts
            if top == "fcc" and inside[:1] in (("passes",), ("backends",), ("models",)):
                continue
            found.add(".".join((prefix, *inside)))
    assert set(config["packages"]) == found


@pytest.mark.parametrize("name", ["passes", "backends", "models"])
def test_folder_refuses_its_short_name(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert f"fcc.{name}" in run.stderr


@pytest.mark.parametrize("name", ["passes", "backends", "models"])
def test_links_point_to_the_folders(name: str) -> None:
    assert (ROOT / "fcc" / name).resolve() == ROOT / name


def test_import_loads_no_onnx_library() -> None:
    heavy = "{'onnx', 'onnx_ir', 'onnxruntime', 'numpy', 'scipy'}"
    code = f"import fcc, sys; bad = {heavy} & set(sys.modules); assert not bad, bad"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_loads_no_onnx_library() -> None:
    code = (
        "import sys\nfrom fcc.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "bad = {'onnx', 'onnx_ir', 'onnxruntime'} & set(sys.modules)\nassert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_version_is_that_of_the_project() -> None:
    from fcc.version import __version__

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
