"""What a container may use: cores and memory by cgroup v1 and v2, and the number of hashing threads that follows."""

import base64
import threading
import time
from pathlib import Path

import pytest
from passlib.hash import argon2, bcrypt, pbkdf2_sha256, scrypt

from service.machine import HASH_MEMORY_BYTES, MIB, WORKER_MEMORY_BYTES, count_cores, hashing_threads, memory_limit
from service.users import foreign_hashes
from service.users.hash_memory import HashMemory

UNLIMITED_V1 = "9223372036854771712"

MEMORY: dict[str, tuple[dict[str, str], int | None]] = {
    "no cgroup": ({}, None),
    "v2 without a limit": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"}, None),
    "v2 in a container": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "268435456"}, 256),
    "v2, a systemd unit": (
        {
            "proc/self/cgroup": "0::/system.slice/keyturn.service",
            "sys/fs/cgroup/system.slice/memory.max": "max",
            "sys/fs/cgroup/system.slice/keyturn.service/memory.max": "536870912",
        },
        512,
    ),
    "v2, the parent's limit is smaller": (
        {
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/a/memory.max": "268435456",
            "sys/fs/cgroup/a/b/memory.max": "536870912",
        },
        256,
    ),
    "v2, the path is the host's": (
        {"proc/self/cgroup": "0::/kubepods/pod1/c1", "sys/fs/cgroup/memory.max": "268435456"},
        256,
    ),
    "v1 without a limit": (
        {"proc/self/cgroup": "4:memory:/", "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_V1},
        None,
    ),
    "v1 in a container": (
        {"proc/self/cgroup": "4:memory:/docker/c1", "sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456"},
        256,
    ),
    "v1, below the root": (
        {
            "proc/self/cgroup": "9:name=systemd:/\n4:memory:/x/y\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_V1,
            "sys/fs/cgroup/memory/x/y/memory.limit_in_bytes": "536870912",
        },
        512,
    ),
    "v1 and v2 side by side": (
        {
            "proc/self/cgroup": "4:memory:/\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456",
            "sys/fs/cgroup/unified/memory.max": "max",
        },
        256,
    ),
    "nonsense": ({"proc/self/cgroup": "\n:\nx", "sys/fs/cgroup/memory.max": "much"}, None),
}


def write_files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(("files", "mebibytes"), MEMORY.values(), ids=MEMORY)
def test_the_memory_limit_is_that_of_the_container(
    tmp_path: Path, files: dict[str, str], mebibytes: int | None
) -> None:
    """It is the smallest limit of the process's control group and the groups around it, in cgroup v1 and v2."""
    limit = memory_limit(write_files(tmp_path, files))
    assert mebibytes == (None if limit is None else limit // MIB)


CORES: dict[str, tuple[dict[str, str], int | None]] = {
    "v2 without a quota": ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
    "v2, half a core": ({"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
    "v2, below the root": ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "100000 100000"}, 1),
    "v1 without a quota": (
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
        None,
    ),
    "v1": ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 1),
    "v1 with two controllers": (
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/c",
            "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us": "150000",
            "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us": "100000",
        },
        1,
    ),
}


@pytest.mark.parametrize(("files", "cores"), CORES.values(), ids=CORES)
def test_the_cores_are_those_of_the_container(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    """The quota of its control group gives at least one core, and never more than its affinity allows."""
    (tmp_path / "none").mkdir()
    assert (cores or count_cores(tmp_path / "none")) == count_cores(write_files(tmp_path / "root", files))


@pytest.mark.parametrize(
    ("workers", "cores", "memory", "threads"),
    [
        (1, 8, None, 8),
        (4, 8, None, 2),
        (4, 2, None, 1),
        (1, 64, 256, 7),  # the limit of deploy/kubernetes
        (2, 64, 1024, 20),  # compose.yaml
        (1, 4, 1024, 4),
        (1, 64, 64, 1),
        (64, 64, 1024, 1),
    ],
)
def test_threads_fit_the_cores_and_the_memory(workers: int, cores: int, memory: int | None, threads: int) -> None:
    """Each worker gets its share of both, and at least one thread."""
    limit = None if memory is None else memory * MIB
    assert threads == hashing_threads(workers, cores=cores, memory=limit)
    if limit is not None and threads > 1:
        assert workers * (WORKER_MEMORY_BYTES + threads * HASH_MEMORY_BYTES) <= limit


def memory_kib(hashed: str) -> int:
    return foreign_hashes.read(hashed).memory_kib


def test_the_memory_of_a_hash_is_read_from_its_text() -> None:
    """Argon2 states it in every spelling, scrypt by N, r and p; bcrypt and PBKDF2 need almost none."""
    ours = argon2.using(memory_cost=65536, rounds=1, parallelism=1).hash("x")
    assert [65536, 65536, 65536] == [memory_kib(text) for text in (ours, f"argon2{ours}", f"{{argon2}}{ours}")]
    assert 16384 < memory_kib(scrypt.using(rounds=14, block_size=8).hash("x")) < 16500
    digest = "00" * 64
    assert 32768 < memory_kib(f"scrypt:32768:8:1$c2FsdA${digest}") < 33000
    assert 16384 < memory_kib(f"scrypt$16384$c2FsdA$8$5${base64.b64encode(bytes(64)).decode()}") < 16500
    assert 0 == memory_kib(bcrypt.using(rounds=4).hash("x"))
    assert 0 == memory_kib(pbkdf2_sha256.using(rounds=1000).hash("x"))


def test_a_large_hash_takes_several_units() -> None:
    """With four units in all, at most four are in use at a time, and every job finishes."""
    memory = HashMemory(4, unit_kib=19456)
    small, large, larger_than_all = 19456, 58368, 999_999
    taken, most, done = 0, 0, 0
    count = threading.Lock()

    def work(kib: int, units: int) -> None:
        nonlocal taken, most, done
        with memory.reserve(kib):
            with count:
                taken += units
                most = max(most, taken)
            time.sleep(0.002)
            with count:
                taken -= units
                done += 1

    jobs = [(large, 3), (small, 1), (0, 1), (larger_than_all, 4)] * 10
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(jobs), 4) == (done, most)
