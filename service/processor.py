"""Whether this processor can run what the image compiled for newer ones: a sentence in place of SIGILL.

The image compiles Argon2 for x86-64-v3 (docs/decisions/0006) and writes the level into a file of its environment.
This module is read before anything compiled, and imports nothing but the standard library.
"""

import sys
from pathlib import Path

MARKER = Path(sys.prefix) / "built-for-processor"
"""What the Dockerfile writes: the level for which the image was compiled. Not there: compiled for every processor."""

CPUINFO = Path("/proc/cpuinfo")

_V2 = frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"})
_V3 = _V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
LEVELS = {"x86-64-v2": _V2, "x86-64-v3": _V3}
"""The flags of a level of the x86-64 ABI, in the kernel's names (`pni` is SSE3, `abm` has LZCNT)."""


def find_obstacle() -> str | None:
    """Why this build cannot run on this processor, as a sentence; `None` if it can, or if that is not known."""
    try:
        level = MARKER.read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    flags = _read_flags()
    missing = sorted(LEVELS.get(level, frozenset()) - flags) if flags else []
    if not missing:
        return None
    return (
        f"This image is built for processors of the level {level}, and this one lacks {', '.join(missing)}. "
        "Build it for every processor: docker build --build-arg ARGON2_CFLAGS=-O3 ."
    )


def _read_flags() -> frozenset[str]:
    """The flags of the first processor; none where the kernel does not tell them."""
    try:
        lines = CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, flags = line.partition(":")
        if name.strip() == "flags":
            return frozenset(flags.split())
    return frozenset()
