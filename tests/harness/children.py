"""The child processes of a process, from /proc."""

import os
import signal
import time
from pathlib import Path


def children_of(pid: int) -> set[int]:
    """Return the processes whose parent is `pid`.

    The file `children` of /proc is no replacement: it leaves out a running child if a sibling ends while it is read.
    """
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        status = _status(int(process.name))
        if status is not None and status[1] == pid:
            found.add(int(process.name))
    return found


def freeze(pid: int) -> None:
    """Stop a process, and return when it has stopped or ended: until then it can start a child."""
    os.kill(pid, signal.SIGSTOP)
    while is_running(pid):
        time.sleep(0.001)


def is_running(pid: int) -> bool:
    """Whether the process exists, has not ended, and is not stopped by a signal."""
    status = _status(pid)
    return status is not None and status[0] not in "TZX"


def has_ended(pid: int) -> bool:
    status = _status(pid)
    return status is None or status[0] in "ZX"


def _status(pid: int) -> tuple[str, int] | None:
    """Return the state of the process and its parent (proc(5)), or `None` if there is no such process."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, parent, *_ = content.rpartition(")")[2].split()
    return state, int(parent)
