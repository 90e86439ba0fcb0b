"""The README's Python runs, its commands are what CI runs, and its links exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_python_blocks_run_in_order(tmp_path: Path) -> None:
    if not (ROOT / "models" / "digits_mlp.onnx").is_file():
        pytest.skip("the trained model is in the checkout only")
    script = tmp_path / "readme.py"
    script.write_text("\n".join(BLOCKS).replace("/tmp/digits_mlp.fcc.onnx", str(tmp_path / "out.onnx")))
    run = subprocess.run([sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out.onnx").is_file()


def test_the_pass_is_short_and_runs_as_a_plugin(tmp_path: Path) -> None:
    (block,) = [b for b in BLOCKS if "class " in b]
    assert len(block.splitlines()) < 30
    plugin = tmp_path / "my_pass.py"
    plugin.write_text(block)
    from fcc.plugins import load

    assert [p.name for p in load([plugin])] == ["sink-neg"]


def test_links_exist() -> None:
    links = [x for x in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in x]
    assert links
    missing = [x for x in links if not (ROOT / x).exists()]
    assert not missing


@pytest.mark.parametrize("marker", ["run", "tests"])
def test_command_is_one_line_behind_its_marker(marker: str) -> None:
    found = re.findall(rf"<!-- {marker} -->\n```sh\n(.*?)\n```", TEXT, re.S)
    assert len(found) == 1
    assert "\n" not in found[0]
