"""Check that this processor can run the code of the image, to report a sentence instead of dying with SIGILL.

The image compiles Argon2 for x86-64-v3 (docs/decisions/0006) and writes the level into a file of its environment.
This module is imported before any compiled module, and imports only the standard library.
"""

import sys
from pathlib import Path

MARKER = Path(sys.prefix) / "built-for-processor"
"""The file in which the Dockerfile writes the level that the image was compiled for. Without it, the build runs on
every processor."""

CPUINFO = Path("/proc/cpuinfo")

_V2 = frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"})
_V3 = _V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
LEVELS = {"x86-64-v2": _V2, "x86-64-v3": _V3}
"""The flags of a level of the x86-64 ABI, in the kernel's names (`pni` is SSE3, `abm` has LZCNT)."""


def find_obstacle(marker: Path = MARKER, cpuinfo: Path = CPUINFO) -> str | None:
    """Return why this build cannot run on this processor, in a sentence; `None` if it can, or if that is unknown."""
    try:
        level = marker.read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    flags = _read_flags(cpuinfo)
    missing = sorted(LEVELS.get(level, frozenset()) - flags) if flags else []
    if not missing:
        return None
    return (
        f"This image is built for processors of the level {level}, and this one lacks {', '.join(missing)}. "
        "Build it for every processor: docker build --build-arg ARGON2_CFLAGS=-O3 ."
    )


def _read_flags(cpuinfo: Path) -> frozenset[str]:
    """Return the flags of the first processor; none if the kernel does not list them."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, flags = line.partition(":")
        if name.strip() == "flags":
            return frozenset(flags.split())
    return frozenset()
