"""Versions of what results depend on."""

from __future__ import annotations

from functools import cache


@cache
def versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    from importlib.metadata import PackageNotFoundError, version

    from fcc.version import __version__

    found = {"fcc": __version__}
    for name in ("numpy", "scipy", "onnxruntime", "onnxruntime-gpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
