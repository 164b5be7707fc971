"""The OpenAPI document, printed by `python -m tests.openapi_document`; `make openapi` keeps it in openapi.json."""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.app import create_app
from service.settings import Settings
from service.users.passwords import CHEAPEST


def document() -> dict[str, Any]:
    """Return the content of /openapi.json with every operation. The app is made but not started: it opens nothing."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), master_secrets="00" * 32, admin_api="on")
        return create_app(settings, hash_cost=CHEAPEST).openapi()


def operations(spec: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the method, the path and the object of every operation of a document."""
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def text() -> str:
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
