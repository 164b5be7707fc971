"""The cores that this machine or its container gives to the process, and the memory limit of the container (cgroups).

The number of hashing threads follows from them (law 9: hashing is a bounded resource).
"""

import os
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20

WORKER_MEMORY_BYTES = 120 * MIB
"""Memory that a worker needs at its peak, besides its password hashes."""

HASH_MEMORY_BYTES = 19 * MIB
"""Memory that a hash with the current parameters needs while it is computed (19,456 KiB)."""

_ROOT = Path("/")


def count_cores(root: Path = _ROOT) -> int:
    """Return how many cores this process may use, by its CPU affinity and the CPU quota of its container.

    `root` is the root of the file system; tests pass a folder with the same layout.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_ratio(folder / "cpu.max") for folder in _groups(root, "")]
    for name in ("cpu", "cpu,cpuacct"):
        quotas += [
            _ratio(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us") for folder in _groups(root, name)
        ]
    return min([cores, *(max(1, int(quota)) for quota in quotas if quota is not None)])


def memory_limit(root: Path = _ROOT) -> int | None:
    """Return the memory limit of this process's container in bytes; `None` without a limit."""
    limits = [_number(folder / "memory.max") for folder in _groups(root, "")]
    limits += [_number(folder / "memory.limit_in_bytes") for folder in _groups(root, "memory")]
    # cgroup v1 has no word for "no limit": it shows a number near 2^63.
    return min((limit for limit in limits if limit is not None and limit < 1 << 60), default=None)


def hashing_threads(workers: int, *, cores: int, memory: int | None) -> int:
    """Return the number of hashing threads of each worker, at least one.

    These are the cores divided by the workers, or fewer if the worker's share of memory, less
    `WORKER_MEMORY_BYTES`, holds fewer hashes.
    """
    by_cores = cores // workers
    if memory is None:
        return max(1, by_cores)
    return max(1, min(by_cores, (memory // workers - WORKER_MEMORY_BYTES) // HASH_MEMORY_BYTES))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups, from the root down. `controller` is empty for cgroup v2.

    In a container `/proc/self/cgroup` may show the path on the host, which does not exist in the container. The group
    of the container is then the root of the mount.
    """
    mounts = [root / "sys/fs/cgroup" / controller]
    if not controller:
        mounts.append(root / "sys/fs/cgroup/unified")
    path = ""
    for line in _lines(root / "proc/self/cgroup"):
        _, names, name = (*line.split(":", 2), "", "")[:3]
        if names == controller or (controller and controller in names.split(",")):
            path = name
    for mount in mounts:
        folder = mount
        yield folder
        for part in Path(path).parts[1:]:
            folder /= part
            yield folder


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("ascii").splitlines()
    except (OSError, ValueError):
        return []


def _number(file: Path) -> int | None:
    words = " ".join(_lines(file)).split()
    return int(words[0]) if words and words[0].isdecimal() else None


def _ratio(*files: Path) -> float | None:
    """Return a quota divided by its period, from one file (v2) or two (v1); `None` without a quota."""
    words = [word for file in files for line in _lines(file) for word in line.split()]
    return int(words[0]) / int(words[1]) if len(words) == 2 and all(map(str.isdecimal, words)) else None
