"""The command ``fcc`` and ``python -m fcc``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: that of the process) and return its exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a compile's matrices are small: more threads only spin
    try:
        from fcc.cli.app import run
    except KeyboardInterrupt:
        return 130
    return run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
