"""The `keyturn` command, and `python -m service`.

What must hold before the service's modules are imported, which takes half a second, is here:

- the processor has what the compiled modules need: an instruction that it lacks would end the process without a
  sentence;
- SIGTERM has a handler: the kernel ignores it for process 1 of a container as long as there is none;
- the folder of PROMETHEUS_MULTIPROC_DIR exists, if it is set: the metrics are made there while they are imported.
"""

import os
import signal
import sys

from service.processor import find_obstacle


def main() -> int:
    """Run one command and give its exit status; 2 where the service's modules cannot be imported."""
    stopped = 0 if sys.argv[1:2] == ["serve"] else 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(stopped))  # there is nothing to clean up yet
    obstacle = find_obstacle() or _find_missing_folder()
    if obstacle is not None:
        print(f"keyturn: {obstacle}", file=sys.stderr)
        return 2
    from service.cli import main as run

    return run()


def _find_missing_folder() -> str | None:
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None or (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):  # noqa: PTH112
        return None
    return (
        f"PROMETHEUS_MULTIPROC_DIR names {folder!r}, which is no folder that can be written to. Unset it: several "
        "workers share a folder of their own."
    )


if __name__ == "__main__":
    sys.exit(main())
