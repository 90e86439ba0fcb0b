"""What runs from an installed wheel: all tests but those of ``fcc.models``, which is in a checkout only."""

from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
collect_ignore = (
    []
    if find_spec("fcc.models")
    else [str(p.relative_to(HERE)) for p in sorted(HERE.rglob("test_*.py")) if "fcc.models" in p.read_text()]
)
