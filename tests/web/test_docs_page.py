"""`/docs` shows the OpenAPI document with local files, and its policy lets the browser load nothing else."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.web.docs import POLICY
from tests.harness.clients import Opener
from tests.harness.servers import REPOSITORY, clean_environment


async def test_the_page_loads_its_own_files_and_no_others(embedded: dict[str, Any], open_client: Opener) -> None:
    """The service serves every script and style of the page with its media type, beside the document."""
    async with open_client(embedded) as client:
        page = await client.get("/docs")
        assert (200, "text/html; charset=utf-8") == (page.status_code, page.headers["content-type"])
        links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert ["data:,", "docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/start.js"] == links
        assert "<script>" not in page.text, "the policy allows no inline script"
        kinds = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
        for link in links[1:]:
            answer = await client.get(f"/{link}")
            assert 200 == answer.status_code, link
            assert kinds[link.rpartition(".")[2]] == answer.headers["content-type"]
            assert "nosniff" == answer.headers["x-content-type-options"]
        start = (await client.get("/docs/start.js")).text
        assert 'url: "openapi.json"' in start
        assert "validatorUrl: null" in start, "otherwise an external validator would learn the address"
        assert "Keyturn" == (await client.get("/openapi.json")).json()["info"]["title"]
        for elsewhere in ("/docs/", "/docs/../keyturn.sqlite3", "/docs/redoc.standalone.js", "/redoc"):
            assert 404 == (await client.get(elsewhere)).status_code, elsewhere


async def test_the_policy_of_the_page(embedded: dict[str, Any], open_client: Opener) -> None:
    """It allows nothing by default; no other host, no inline script, no eval, no frame around it."""
    async with open_client(embedded) as client:
        policy = (await client.get("/docs")).headers["content-security-policy"]
    assert POLICY == policy
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert {"'none'"} == {parts[name] for name in ("default-src", "base-uri", "form-action", "frame-ancestors")}
    assert {"'self'"} == {parts[name] for name in ("script-src", "style-src", "connect-src")}
    assert not re.search(r"https?:|\*|unsafe", policy)


@pytest.mark.parametrize("settings", [{"docs": False}, {"host": "0.0.0.0"}])  # noqa: S104
async def test_it_is_served_on_loopback_or_where_the_operator_wants_it(
    embedded: dict[str, Any], open_client: Opener, settings: dict[str, Any]
) -> None:
    """Other deployments do not serve the page or its files."""
    async with open_client({**embedded, **settings}) as client:
        for path in ("/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/openapi.json"):
            assert 404 == (await client.get(path)).status_code, path


def test_no_code_of_the_distribution_with_the_files_is_imported(tmp_path: Path) -> None:
    """A documentation page must not load third-party code into the process."""
    program = (
        "import sys; from service.settings import Settings; from service.app import create_app;"
        "create_app(Settings(data_dir=sys.argv[1])); assert 'service.web.docs' in sys.modules;"
        "assert 'fastapi_offline' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=REPOSITORY, env=clean_environment(), check=True,
    )  # fmt: skip
