"""The resources that processes use, from /proc: memory, file descriptors, CPU seconds."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.harness.servers import Process

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cores:
    """Seconds up to now: since boot, of busy cores, and of cores busy with this program and its children."""

    clock: float
    busy: float
    ours: float

    @classmethod
    def now(cls) -> Self:
        user, nice, system = Path("/proc/stat").read_text("ascii").split()[1:4]
        times = os.times()  # includes children that have ended, and theirs
        ours = times.user + times.system + times.children_user + times.children_system
        return cls(times.elapsed, (int(user) + int(nice) + int(system)) / _TICKS, ours)

    def taken_by_others_since(self, before: Self) -> float:
        others = (self.busy - before.busy) - (self.ours - before.ours)
        return max(0.0, others) / (self.clock - before.clock) / (os.cpu_count() or 1)


def pid_of(process: Process) -> int:
    assert process.child is not None
    return process.child.pid


def mebibytes(pid: int, field: str = "VmRSS") -> float:
    """Return a figure of the process's memory: `VmRSS` is its current memory, `VmHWM` the maximum so far."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def proportional_mebibytes(pid: int) -> float:
    """Return the memory of the process, in which a page that n processes share counts as an nth of a page."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    return int(rollup.partition("\nPss:")[2].split()[0]) / 1024


def descriptors(pid: int) -> tuple[int, int]:
    """Return the number of open file descriptors, and how many of them are sockets."""
    kinds = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since the listing
            kinds.append(str(entry.readlink()).partition(":")[0])
    return len(kinds), kinds.count("socket")


def core_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its children, including ended ones."""
    own = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return sum(map(int, own[11:15])) / _TICKS + sum(core_seconds(int(child)) for child in children)
