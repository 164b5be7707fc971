"""The examples for relying services run unchanged against the real programs; the tests replace only ports."""

import asyncio
import contextlib
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from service.settings import Settings
from tests.harness.documents import pages
from tests.harness.gateways import caddy, nginx, running
from tests.harness.people import PASSWORD, Person, real_clock, sign_up
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY, Served, keyturn, make_schema, wait_until
from tests.harness.sessions import bearer, refresh

EXAMPLES = REPOSITORY / "examples"
STEP_UP = 'acr_values="aal2", max_age="300"'
SPOOFED = {
    "X-Auth-Subject": "mallory", "x-auth-username": "mallory", "X-Auth-Roles": "admin", "X_Auth_Amr": "hwk",
    "X-Auth_Roles": "admin", "X_Auth-Roles": "admin", "x-auth_Subject": "mallory",
}  # fmt: skip

PAYMENTS = ("/payments", "/payments/7", "//payments", "/x/../payments")

ECHO = """
import json, uvicorn

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    said = json.dumps([[str(part, "latin-1") for part in header] for header in scope["headers"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": said})

uvicorn.run(app, port=int(__import__("sys").argv[1]), log_level="warning", lifespan="off")
"""


@dataclass
class Shop:
    """An application behind or beside Keyturn, and a user of it."""

    keyturn: Served
    data: Path
    url: str
    alice: Person
    tokens: dict[str, Any]

    async def ask(self, path: str, token: str | None, *, method: str = "GET", **headers: str) -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=10) as client:
            given = headers | (bearer(token) if token else {})
            return await client.request(method, self.url + path, headers=given)

    async def later(self) -> str:
        """Return an access token of the same session, as it would be ten minutes after the last code."""
        # The clock of a real process cannot be moved.
        with contextlib.closing(sqlite3.connect(self.data / "keyturn.sqlite3")) as database, database:
            database.execute("UPDATE sessions SET auth_time = auth_time - 600")
        answer = (await refresh(self.alice.client, self.tokens["refresh_token"])).json()
        self.tokens = answer
        return str(answer["access_token"])

    async def step_up(self, token: str) -> str:
        step_up = (await self.alice.client.post("/step-up", headers=bearer(token))).json()
        answer = await self.alice.give_code(self.alice.code(1), step_up["mfa_token"])
        assert 200 == answer.status_code, answer.text
        return str(answer.json()["access_token"])


@contextlib.asynccontextmanager
async def shop(tmp_path: Path, kind: str) -> AsyncIterator[Shop]:
    """Keyturn, the example, and a user with a fresh two-factor login."""
    data = tmp_path / "data"
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(keyturn({"KEYTURN_DATA_DIR": str(data), "KEYTURN_LIMIT_LOGIN": "off"}))
        url = f"http://127.0.0.1:{free_port()}"
        await asyncio.to_thread(stack.enter_context, serving(kind, served.url, url, tmp_path))
        async with httpx2.AsyncClient(base_url=served.url, timeout=10) as client:
            alice = await sign_up(client, real_clock)
            answer = await alice.confirm_early()
            yield Shop(served, data, url, alice, answer.json())


@contextlib.contextmanager
def serving(kind: str, keyturn_url: str, url: str, folder: Path) -> Iterator[None]:
    """Serve the example at `url`, with Keyturn at `keyturn_url`; the application behind a gateway echoes headers."""
    if kind == "fastapi":
        arguments = [sys.executable, "-m", "uvicorn", "relying_service:app", "--app-dir", str(EXAMPLES)]
        with running([*arguments, "--port", url.rpartition(":")[2]], url, {"KEYTURN": keyturn_url}):
            yield
        return
    echo = f"http://127.0.0.1:{free_port()}"
    places = {
        "127.0.0.1:8000": keyturn_url.removeprefix("http://"),
        "127.0.0.1:9000": echo.removeprefix("http://"),
        ":8080": url.removeprefix("http://127.0.0.1"),
    }
    for file in EXAMPLES.iterdir():
        if file.is_file():
            text = file.read_text("utf-8")
            for documented, here in places.items():
                text = text.replace(documented, here)
            (folder / file.name).write_text(text)
    gateway = nginx(folder) if kind == "nginx" else caddy(folder)
    with (
        running([sys.executable, "-c", ECHO, echo.rpartition(":")[2]], echo),
        running(gateway, url, {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}),
    ):
        yield


def identity_headers(answer: httpx2.Response) -> dict[str, list[str]]:
    """Return every header of the application's request whose name could be taken for one of ours."""
    found: dict[str, list[str]] = {}
    for name, value in answer.json():
        if "auth" in name.lower().replace("_", "-") and name.lower() != "authorization":
            found.setdefault(name.lower(), []).append(value)
    return found


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_a_gateway_accepts_valid_tokens_and_identifies_the_user(tmp_path: Path, kind: str) -> None:
    """The identity is Keyturn's, never the caller's; without a valid token the application gets no request."""
    async with shop(tmp_path, kind) as at:
        me = (await at.alice.client.get("/me", headers=bearer(at.tokens["access_token"]))).json()
        for method in ("GET", "POST", "DELETE"):
            answer = await at.ask("/orders?page=2", at.tokens["access_token"], method=method, **SPOOFED)
            assert 200 == answer.status_code, answer.text
            identity = {name: value for name, value in identity_headers(answer).items() if value != [""]}
            assert {
                "x-auth-subject": [me["sub"]],
                "x-auth-username": ["alice"],
                "x-auth-amr": ["pwd,otp,mfa"],
            } == identity
        for token in (None, "a.b.c", at.tokens["refresh_token"]):
            refused = await at.ask("/orders", token, **SPOOFED)
            assert 401 == refused.status_code
            assert refused.headers["www-authenticate"].startswith('Bearer realm="keyturn"')


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_a_gateway_does_not_send_the_applications_cookies_to_keyturn(tmp_path: Path, kind: str) -> None:
    """17,000 bytes of cookies exceed Keyturn's limit of headers; the application gets them all."""
    cookies = [("Cookie", f"c{number}=" + "x" * 5666) for number in range(3)]
    async with shop(tmp_path, kind) as at, httpx2.AsyncClient(timeout=10) as client:
        for path in ("/orders", "/payments"):
            headers = [*cookies, ("Authorization", f"Bearer {at.tokens['access_token']}")]
            answer = await client.get(at.url + path, headers=headers)
            assert 200 == answer.status_code, (path, answer.text)
            got = "; ".join(value for name, value in answer.json() if name.lower() == "cookie")
            assert "; ".join(value for _, value in cookies) == got
            refused = await client.get(at.url + path, headers=cookies)
            assert 401 == refused.status_code, path


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_a_gateway_forwards_the_challenge_to_step_up(tmp_path: Path, kind: str) -> None:
    """One path needs a fresh second factor: the caller gets the challenge, steps up, and is admitted."""
    async with shop(tmp_path, kind) as at:
        assert 200 == (await at.ask("/payments", at.tokens["access_token"], method="POST")).status_code
        old = await at.later()
        assert 200 == (await at.ask("/orders", old)).status_code
        for path in (*PAYMENTS, "/Payments", "/payments;a", "/payments%3f"):
            refused = await at.ask(path, old, method="POST")
            assert 401 == refused.status_code, path
            assert STEP_UP in refused.headers["www-authenticate"]
        raised = await at.step_up(old)
        assert 200 == (await at.ask("/payments", raised, method="POST")).status_code


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_a_gateway_refuses_within_a_second_of_a_logout(tmp_path: Path, kind: str) -> None:
    """This holds however often the token was accepted before."""
    async with shop(tmp_path, kind) as at:
        token = at.tokens["access_token"]
        assert 200 == (await at.ask("/orders", token)).status_code
        assert 204 == (await at.alice.client.post("/logout", headers=bearer(token))).status_code
        ends = time.monotonic() + 20
        while (await at.ask("/orders", token)).status_code == 200:
            assert time.monotonic() < ends


async def test_the_fastapi_service_verifies_tokens_by_itself(tmp_path: Path) -> None:
    """It requires step-up on the one route that needs it."""
    async with shop(tmp_path, "fastapi") as at:
        answer = await at.ask("/orders", at.tokens["access_token"])
        assert (200, {"orders of": "alice"}) == (answer.status_code, answer.json())
        assert 200 == (await at.ask("/payments", at.tokens["access_token"], method="POST")).status_code
        old = await at.later()
        assert 200 == (await at.ask("/orders", old)).status_code
        refused = await at.ask("/payments", old, method="POST")
        assert (401, True) == (refused.status_code, STEP_UP in refused.headers["www-authenticate"])
        raised = await at.step_up(old)
        assert {"paid by": "alice"} == (await at.ask("/payments", raised, method="POST")).json()
        pending = await at.alice.pending()
        head, body, signature = raised.split(".")
        for bad in (
            None,
            "x",
            pending,
            at.tokens["refresh_token"],
            f"{head}.{body}.",
            f"{head}.{body}.{signature[:-4]}AAAA",
        ):
            assert 401 == (await at.ask("/orders", bad)).status_code


async def test_the_fastapi_service_does_not_hang_with_keyturn(tmp_path: Path) -> None:
    """A token can name an unknown key: fetching the key set takes two seconds at most, then the answer is 503."""
    url, token = f"http://127.0.0.1:{free_port()}", jwt.encode({}, "x" * 32, headers={"kid": "unknown"})
    with socket.create_server(("127.0.0.1", 0)) as silent, contextlib.ExitStack() as stack:
        keyturn_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        await asyncio.to_thread(stack.enter_context, serving("fastapi", keyturn_url, url, tmp_path))
        async with httpx2.AsyncClient(timeout=10) as client:
            refused = await client.get(url + "/orders", headers=bearer(token))
    assert (503, "1") == (refused.status_code, refused.headers["retry-after"])


def test_the_examples_are_in_the_documentation() -> None:
    """A guide names each file."""
    guides = "".join(page.read_text("utf-8") for page in pages())
    for file in EXAMPLES.iterdir():
        assert f"examples/{file.name}" in guides or file.name == "__pycache__"


def commands_of(file: str) -> list[str]:
    """Return the indented shell lines of an example's docstring."""
    docstring = (EXAMPLES / file).read_text("utf-8").split('"""')[1]
    return [line.strip() for line in docstring.splitlines() if line.startswith("    ")]


def test_the_webhook_receiver_starts_as_its_first_lines_say(tmp_path: Path) -> None:
    """It runs in this folder, with a secret made as they say, on another port than Keyturn's; it accepts an event."""
    make_secret, start = commands_of("webhook_receiver.py")
    port = free_port()
    assert "8000" not in start
    start = start.replace("8001", str(port)).replace(".venv/bin/python", sys.executable)
    make_schema(Settings(data_dir=tmp_path / "data"))
    script = f"{make_secret}\necho $KEYTURN_WEBHOOK_SECRET > {tmp_path}/secret\nexec {start}\n"
    url = f"http://127.0.0.1:{port}/keyturn"
    with running(["bash", "-euc", script], url):
        secret = (tmp_path / "secret").read_text().strip()
        environment = {"KEYTURN_WEBHOOK_URL": url, "KEYTURN_WEBHOOK_SECRET": secret}
        with keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data"), **environment}) as served:
            body = {"username": "alice", "password": PASSWORD}
            assert 201 == httpx2.post(f"{served.url}/signup", json=body, timeout=10).status_code

            def delivered() -> None:
                with contextlib.closing(sqlite3.connect(tmp_path / "data" / "keyturn.sqlite3")) as database:
                    (due,) = database.execute("SELECT COUNT(*) FROM outbox").fetchone()
                    (events,) = database.execute("SELECT COUNT(*) FROM events").fetchone()
                assert (0, 1) == (due, events)

            wait_until(delivered)
        assert 401 == httpx2.post(url, json={}, timeout=10).status_code, "it refuses unsigned requests"


def test_the_guide_shows_the_commands_of_the_webhook_receiver() -> None:
    """They are the same as in the example itself."""
    guide = (REPOSITORY / "docs" / "guides" / "receive-events.md").read_text("utf-8")
    assert all(command in guide for command in commands_of("webhook_receiver.py"))
