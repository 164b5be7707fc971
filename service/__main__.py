"""The `keyturn` command, and `python -m service`.

The processor is looked at before anything compiled is imported: an instruction that it lacks would end the process
without a sentence.
"""

import sys

from service.processor import find_obstacle


def main() -> int:
    """Run one command and give its exit status; 2 on a processor for which this build is not made."""
    obstacle = find_obstacle()
    if obstacle is not None:
        print(f"keyturn: {obstacle}", file=sys.stderr)
        return 2
    from service.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
