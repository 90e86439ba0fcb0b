"""The class of machine that a measurement belongs to: what decides which kernels a runtime picks."""

from __future__ import annotations

import platform
from pathlib import Path

# (class, flags of /proc/cpuinfo that it needs), the most capable first
_CLASSES = (
    ("avx512+vnni", frozenset({"avx512f", "avx512_vnni"})),
    ("avx512", frozenset({"avx512f"})),
    ("avx2+vnni", frozenset({"avx2", "avx_vnni"})),
    ("avx2", frozenset({"avx2"})),
)

# --cpu-isa -> classes whose measurements may answer, the nearest first
ANSWERS = {
    "avx2": ("avx2", "avx2+vnni", "avx512", "avx512+vnni"),
    "vnni": ("avx512+vnni", "avx2+vnni", "avx512", "avx2"),
    "arm": ("arm64",),
}


def cpu_class(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the class of this CPU: its widest vector unit and whether it multiplies int8, or the machine's name."""
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return "arm64"
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return machine
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    flags = set(line.partition(":")[2].split())
    return next((name for name, needed in _CLASSES if needed <= flags), machine)
