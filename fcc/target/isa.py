"""The instruction set of this machine, in the classes that matter to int8 kernels."""

from __future__ import annotations

import platform
from pathlib import Path

_VNNI_FLAGS = frozenset({"avx_vnni", "avx512_vnni", "avx_vnni_int8"})


def native_isa(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return ``arm``, ``vnni`` or ``avx2`` for this machine; ``avx2``, right on every x86, without readable flags."""
    if platform.machine().lower() in {"aarch64", "arm64"}:
        return "arm"
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "avx2"
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return "vnni" if _VNNI_FLAGS & set(flags.split()) else "avx2"
