"""Draw docs/output.svg: what the README's first command prints, from a real run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
COMMAND = "fcc models/digits_mlp.onnx -O2 --target cpu"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "digits_mlp.fcc.onnx")
        arguments = [*COMMAND.split()[1:], "-o", out]
        run = subprocess.run(
            [sys.executable, "-m", "fcc", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    shown = run.stdout.replace(out, "models/digits_mlp.fcc.onnx")
    width = max(map(len, (shown + COMMAND).splitlines())) + 4
    console = Console(record=True, width=min(width, 100), file=StringIO())
    console.print(Text(f"$ {COMMAND}\n{shown}".rstrip()))
    console.save_svg(str(ROOT / "docs" / "output.svg"), title="fcc", clear=True)


if __name__ == "__main__":
    main()
