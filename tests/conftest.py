"""What runs from an installed wheel: all tests but those of ``fcc.models``, which is in a checkout only.

Hypothesis draws the same examples every time, so that a run of the suite says something about the code;
``HYPOTHESIS_PROFILE=explore pytest`` draws new ones.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

os.environ["FCC_TABLE"] = os.devnull + "/none"  # what the user of this machine measured is not what is tested

HERE = Path(__file__).parent
collect_ignore = (
    []
    if find_spec("fcc.models")
    else [str(p.relative_to(HERE)) for p in sorted(HERE.rglob("test_*.py")) if "fcc.models" in p.read_text()]
)
