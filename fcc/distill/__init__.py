"""Distillation: weights of a compressed model fine-tuned in torch against the answers of the original.

Needs the extra fcc[torch], which is imported when it is used.
"""

from __future__ import annotations

from importlib.util import find_spec

from fcc.errors import OptionError


def require_torch() -> None:
    """Check that torch is installed, without importing it.

    Raises:
        OptionError: it is not.
    """
    if find_spec("torch") is None:
        raise OptionError("distillation needs torch, which is not installed", 'pip install "fcc[torch]"')
