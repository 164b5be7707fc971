"""Which page of `docs/reference/` is made by which module."""

from collections.abc import Callable

from tests.harness.servers import REPOSITORY
from tests.reference import cli, endpoints, errors, events, log, metrics, settings, tokens

FOLDER = REPOSITORY / "docs" / "reference"

PAGES: dict[str, Callable[[], str]] = {
    f"{module.__name__.rpartition('.')[2]}.md": module.write
    for module in (cli, endpoints, errors, events, log, metrics, settings, tokens)
}
