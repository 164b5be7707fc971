"""Keyturn under a path of a domain, with the lines of the guide "Run Keyturn behind a proxy or a balancer"."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tests.harness.account_page import Someone, serving
from tests.harness.browsers import COOKIE, DEVICE_COOKIE
from tests.harness.chromium import chromium
from tests.harness.documents import blocks
from tests.harness.gateways import nginx, running
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY, find_program, keyturn
from tests.harness.spoiled import listening

GUIDE = REPOSITORY / "docs" / "guides" / "behind-a-proxy.md"


def example(language: str) -> str:
    (block,) = blocks(GUIDE, language)
    return block.text


def cookie_map(file: str) -> str:
    """The lines of an example configuration that keep Keyturn's cookies and no other."""
    found = re.search(
        r"^[ \t]*map .*?^[ \t]*}\n(?=\n)", (REPOSITORY / "deploy" / file).read_text(), re.DOTALL | re.MULTILINE
    )
    assert found is not None
    return found[0]


@contextlib.contextmanager
def with_nginx(folder: Path, service: str, url: str) -> Iterator[None]:
    port, address = url.rpartition(":")[2], service.removeprefix("http://")
    (folder / "site.conf").write_text(
        f"upstream keyturn {{ server {address}; }}\n{cookie_map('nginx/keyturn.conf')}"
        f"server {{ listen 127.0.0.1:{port};\n{example('nginx')}}}\n"
    )
    with running(nginx(folder, "site.conf"), url):
        yield


@contextlib.contextmanager
def with_caddy(folder: Path, service: str, url: str) -> Iterator[None]:
    lines = cookie_map("caddy/Caddyfile") + example("caddyfile").replace(
        "127.0.0.1:8000", service.removeprefix("http://")
    )
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{url} {{\n\tbind 127.0.0.1\n{lines}}}\n")
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    arguments = [find_program("caddy"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with running(arguments, url, home):
        yield


@pytest.mark.parametrize("proxy", [with_nginx, with_caddy])
def test_clients_find_the_metadata_and_the_endpoints_of_an_issuer_with_a_path(
    proxy: Callable[[Path, str, str], contextlib.AbstractContextManager[None]], tmp_path: Path
) -> None:
    """The metadata is where RFC 8414 section 3.1 puts it, and every address that it names answers."""
    url = f"http://127.0.0.1:{free_port()}"
    with (
        keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_ISSUER": f"{url}/auth"}) as served,
        proxy(tmp_path, served.url, url),
    ):
        for place in ("oauth-authorization-server", "openid-configuration"):
            metadata = httpx2.get(f"{url}/.well-known/{place}/auth", timeout=10).json()
            assert f"{url}/auth" == metadata["issuer"]
        assert httpx2.get(metadata["jwks_uri"], timeout=10).json()["keys"]
        assert (
            "unsupported_grant_type"
            == httpx2.post(
                metadata["token_endpoint"], data={"grant_type": "x", "client_id": "keyturn"}, timeout=10
            ).json()["error"]
        )
        assert 401 == httpx2.get(f"{url}/auth/me", timeout=10).status_code
        inside = [httpx2.get(f"{url}/auth/{name}", timeout=10) for name in ("metrics", "readyz", "livez")]
        assert [404] * 3 == [answer.status_code for answer in inside]


@pytest.mark.parametrize("proxy", [with_nginx, with_caddy])
def test_claims_and_cookies_of_callers_are_removed_under_a_path(
    proxy: Callable[[Path, str, str], contextlib.AbstractContextManager[None]], tmp_path: Path
) -> None:
    """The address is that of the connection; of the cookies only the two of Keyturn arrive."""
    got: list[Headers] = []

    async def record(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(Headers(scope=scope))
        await PlainTextResponse("")(scope, receive, send)

    url = f"http://127.0.0.1:{free_port()}"
    own, device = f"{COOKIE}=ktr_a", f"{DEVICE_COOKIE}=ktd_b"
    arriving = {
        f"other=1; {own}; more=2": own,
        f"other=1;{device};more=2": device,
        f"{own}; other=1; {device}": f"{own}; {device}",
        f"{device};{own}": f"{own}; {device}",
        f"{own}; a=b; {COOKIE}=x": f"{own}; {COOKIE}=x",
        f"{own};{own}; {device}": f"{own}; {own}; {device}",
        f"a=b; {device}; {DEVICE_COOKIE}=; {own}": f"{own}; {device}; {DEVICE_COOKIE}=",
        f"{device}; {device}": f"{device}; {device}",
        f"x{own}; a={device}; {COOKIE.lower()}-x=1": None,
        f"{COOKIE}={{env.HOME}}$host${{1}}; {device}": f"{COOKIE}={{env.HOME}}$host${{1}}; {device}",
        "other=1": None,
    }
    with listening(record) as service, proxy(tmp_path, service, url):
        got.clear()
        for path in ("/auth/me", "/.well-known/oauth-authorization-server/auth"):
            httpx2.get(f"{url}{path}", headers={"X-Forwarded-For": "198.51.100.7"}, timeout=10)
        assert ["127.0.0.1", "127.0.0.1"] == [headers["x-forwarded-for"] for headers in got]
        for sent, expected in arriving.items():
            httpx2.get(f"{url}/auth/me", headers={"Cookie": sent}, timeout=10)
            assert expected == (got[-1].get("cookie") or None), sent


@pytest.mark.heavy
def test_the_account_page_works_under_a_path(tmp_path: Path) -> None:
    """Sign-up, a link of a message, logout, login, and a refresh by the cookie, whose path is that of the host."""
    front, port = f"http://localhost:{free_port()}", free_port()
    for name in ("chromium", "nginx"):
        (tmp_path / name).mkdir()
    with (
        chromium(tmp_path / "chromium") as browser,
        serving(browser, tmp_path, port=port, issuer=f"{front}/auth") as site,
        with_nginx(tmp_path / "nginx", f"http://127.0.0.1:{port}", front),
    ):
        ann = Someone(site, site.profile(), "ann")
        ann.at.open(f"{front}/auth#signup")
        ann.at.heading("Create an account")
        assert f"{site.page}#signup" == ann.at.url()
        assert 10 == len(ann.sign_up(email="ann@example.com"))
        ann.at.open(site.find_link("ann@example.com", "confirm-email"))
        ann.at.press("Confirm the address")
        ann.at.heading("The address is confirmed")
        ann.at.press("Log out")
        ann.at.heading("Log in")
        assert [] == ann.at.run("return context.cookies()")
        ann.log_in()
        assert ["/"] == ann.at.run("return (await context.cookies()).map(({ path }) => path)")
        ann.at.run("await Promise.all([page.waitForResponse('**/auth/token'), page.reload()])")
        ann.at.heading("Hello, ann")
        assert [] == ann.at.faults()
