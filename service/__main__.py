"""The `keyturn` command, and `python -m service`.

This module does what must happen before it imports the other modules of the service, which takes half a second:

- It checks that the processor has the instructions that the compiled modules use: one that it lacks would kill the
  process (SIGILL) without an error message.
- It sets a handler for SIGTERM: as long as process 1 of a container has none, the kernel ignores the signal.
- It checks the folder that PROMETHEUS_MULTIPROC_DIR names, if that is set. The variable is prometheus_client's: with
  it, importing `service.telemetry.metrics` creates files in that folder. The library still accepts its former name in
  lower case.
"""

import os
import signal
import sys
from pathlib import Path

from service.processor import CPUINFO, MARKER, find_obstacle


def main(*, marker: Path = MARKER, cpuinfo: Path = CPUINFO) -> int:
    """Run one command and give its exit status; 2 where the service's modules cannot be imported."""
    stopped = 0 if sys.argv[1:2] == ["serve"] else 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(stopped))  # there is nothing to clean up yet
    obstacle = find_obstacle(marker, cpuinfo) or _find_missing_folder()
    if obstacle is not None:
        print(f"keyturn: {obstacle}", file=sys.stderr)
        return 2
    from service.cli import main as run

    return run()


def _find_missing_folder() -> str | None:
    name = "PROMETHEUS_MULTIPROC_DIR"
    if name not in os.environ:
        name = name.lower()
    folder = os.environ.get(name)
    if folder is None or (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):  # noqa: PTH112
        return None
    return (
        f"{name} names {folder!r}, which is not a folder that can be written to. Unset it: with "
        "several workers, `keyturn serve` makes a temporary folder itself."
    )


if __name__ == "__main__":
    sys.exit(main())
