"""nginx and Caddy in front of Keyturn, with the files of deploy/. The tests replace only names, ports and keys."""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.harness.browsers import COOKIE, DEVICE_COOKIE, Browser
from tests.harness.databases import PATIENT_SECONDS
from tests.harness.gateways import nginx, running
from tests.harness.people import real_clock, sign_up
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY, find_program, keyturn, missing
from tests.harness.sessions import bearer

DEPLOY = REPOSITORY / "deploy"
INSIDE = ("/metrics", "/readyz", "/livez")


@dataclass
class Outside:
    """What an external client needs: a name with TLS, a name without, and the certificate's issuer."""

    url: str
    clear: str
    certificate: Path
    keyturn: str
    log: Path

    def client(self, **headers: str) -> httpx2.AsyncClient:
        trust = ssl.create_default_context(cafile=str(self.certificate))
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=10, verify=trust)


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def outside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """Keyturn, and a gateway in front of it that Keyturn trusts."""
    folder = tmp_path_factory.mktemp(request.param)
    log = folder / "keyturn.log"
    certificate = self_signed(folder)
    settings = {
        "KEYTURN_DATA_DIR": str(folder / "data"),
        "KEYTURN_TRUSTED_PROXIES": "127.0.0.1",
        "KEYTURN_ISSUER": "https://localhost",
        "KEYTURN_LIMIT_SIGNUP": "6/1h",
        "KEYTURN_REMEMBER_DEVICE_DAYS": "30",
    }
    with keyturn(settings, log=log) as served, contextlib.ExitStack() as stack:
        url, clear = f"https://localhost:{free_port()}", f"http://localhost:{free_port()}"
        serve = with_nginx if request.param == "nginx" else with_caddy
        stack.enter_context(serve(folder, served.url, url, clear))
        yield Outside(url, clear, certificate, served.url, log)


def self_signed(folder: Path) -> Path:
    if shutil.which("openssl") is None:
        missing("openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "fullchain.pem"


def adapted(file: str, folder: Path, places: dict[str, str]) -> None:
    """Write the file, with each documented place (which must occur in it) replaced by the test's."""
    text = (DEPLOY / file).read_text("utf-8")
    for documented, here in places.items():
        assert documented in text, documented
        text = text.replace(documented, here)
    (folder / Path(file).name).write_text(text)


def port_of(url: str) -> str:
    return url.rpartition(":")[2]


@contextlib.contextmanager
def with_nginx(folder: Path, keyturn_url: str, url: str, clear: str) -> Iterator[None]:
    adapted(
        "nginx/keyturn.conf",
        folder,
        {
            "server 127.0.0.1:8000": f"server {keyturn_url.removeprefix('http://')}",
            "listen 80;": f"listen 127.0.0.1:{port_of(clear)};",
            "listen 443 ssl": f"listen 127.0.0.1:{port_of(url)} ssl",
            "https://auth.example.com$request_uri": f"{url}$request_uri",
            "auth.example.com": "localhost",
            "/etc/ssl/keyturn": str(folder),
        },
    )
    arguments = nginx(folder, "keyturn.conf")
    checked = subprocess.run([*arguments, "-t"], capture_output=True, text=True, check=False)
    assert (0, False) == (checked.returncode, "[warn]" in checked.stderr), checked.stderr
    with running(arguments, clear):
        yield


@contextlib.contextmanager
def with_caddy(folder: Path, keyturn_url: str, url: str, clear: str) -> Iterator[None]:
    certificates = f"tls {folder}/fullchain.pem {folder}/privkey.pem {{\n"
    ports = f"http_port {port_of(clear)}\n\thttps_port {port_of(url)}"
    adapted(
        "caddy/Caddyfile",
        folder,
        {
            "127.0.0.1:8000": keyturn_url.removeprefix("http://"),
            "http://auth.example.com {": f"{clear} {{\n\tbind 127.0.0.1",
            "\nhttps://auth.example.com {": f"\n{url} {{\n\tbind 127.0.0.1",
            "https://auth.example.com{uri}": url + "{uri}",
            "tls {\n": certificates,
            # Its administration would take a port of the machine's.
            "{\n\t# With Caddy's own": f"{{\n\tadmin off\n\t{ports}\n\t# With Caddy's own",
        },
    )
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    arguments = [find_program("caddy"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with running(arguments, clear, home):
        yield


async def test_both_steps_of_a_login_through_tls(outside: Outside) -> None:
    """A login by password and code works, and so does its token; every answer has HSTS, refusals too."""
    async with outside.client() as client:
        alice = await sign_up(client, real_clock)
        await alice.confirm_early()
        code = alice.code()  # one code for both logins: the step may end between them
        admitted = await alice.log_in(code)
        assert 200 == admitted.status_code, admitted.text
        me = await client.get("/me", headers=bearer(admitted.json()["access_token"]))
        assert "alice" == me.json()["username"]
        refused = await alice.log_in(code)
        assert (401, "invalid_code") == (refused.status_code, refused.json()["code"])
    for answer in (admitted, refused):
        assert "max-age=63072000" == answer.headers["strict-transport-security"]
        assert "no-store" == answer.headers["cache-control"]
        assert "caddy" not in answer.headers.get("server", "").lower()


async def test_the_refresh_cookie_reaches_keyturn(outside: Outside) -> None:
    """A cookie session is opened, refreshed and ended through the gateway, with other cookies around its own."""
    async with outside.client(Origin="https://localhost") as client:
        bob = await sign_up(client, real_clock, "cookie", mfa=False)
        browser = Browser(client, "https://localhost")
        await browser.log_in(bob)
        for around in ("{}", "a=b; {}", "{}; a=b", "a=b;{};c=d", "x" * 6000 + "; {}; y=" + "y" * 1000):
            headers = {"Cookie": around.format(f"{COOKIE}={browser.cookie}")}
            answer = await browser.post("/token", headers=headers, data={"grant_type": "refresh_token"})
            assert (200, False) == (answer.status_code, "refresh_token" in answer.json()), around
        own = f"{COOKIE}={browser.cookie}"
        for lines, error in (
            (f"{own}; a=b; {own}", "invalid_request"),
            (f"{COOKIE}=x; {own}", "invalid_request"),
            (f"x{own}", "invalid_grant"),
            (f"a={own}", "invalid_grant"),
        ):
            headers = {"Cookie": lines}
            refused = await browser.post("/token", headers=headers, data={"grant_type": "refresh_token"})
            assert error == refused.json()["error"], lines
        foreign = Browser(client, "https://evil.example.com", browser.cookie)
        assert "invalid_request" == (await foreign.refresh()).json()["error"]
        access = (await browser.refresh()).json()["access_token"]
        assert 204 == (await browser.post("/logout", headers=bearer(access))).status_code
        assert browser.cookie is None


async def test_the_device_cookie_reaches_keyturn(outside: Outside) -> None:
    """A known device is known through the gateway, with its refresh cookie, without it, and among other cookies."""
    async with outside.client(Origin="https://localhost") as client:
        eve = await sign_up(client, real_clock, "device")
        await eve.confirm_early()
        browser = Browser(client, "https://localhost")
        await browser.log_in(eve, remember_device=True)
        own, refresh = f"{DEVICE_COOKIE}={browser.device}", f"{COOKIE}={browser.cookie}"
        for cookies, is_known in (
            (f"{refresh}; {own}", True), (f"x=y; {own}; a=b", True), (f"{own};{refresh}", True),
            (f"{own}; a=b; {own}", False), (f"{DEVICE_COOKIE}=x; {own}; {refresh}", False), (f"a={own}", False),
        ):  # fmt: skip
            body = {"username": "device", "password": eve.password}
            answer = await browser.post("/login", headers={"Cookie": cookies}, json=body)
            assert (200, is_known) == (answer.status_code, not answer.json()["mfa_required"]), cookies


async def test_a_caller_cannot_choose_its_address(outside: Outside) -> None:
    """The gateway removes the caller's X-Forwarded-For and similar headers: the limit of six accounts holds."""
    answers = []
    for number in range(9):
        claims = {
            "X-Forwarded-For": f"203.0.113.{number}",
            "X-Real-IP": "203.0.113.9",
            "Forwarded": "for=203.0.113.9",
        }
        async with outside.client(**claims) as client:
            person = {"username": f"bob{number}", "password": "correct horse battery staple"}
            answers.append((await client.post("/signup", json=person)).status_code)
    assert {429} == set(answers[-3:])
    assert "203.0.113" not in outside.log.read_text()


async def test_internal_paths_are_not_found_outside(outside: Outside) -> None:
    """This holds in every spelling; inside they are found."""
    async with httpx2.AsyncClient(base_url=outside.keyturn, timeout=PATIENT_SECONDS) as inside:
        for path in INSIDE:
            assert 200 == (await inside.get(path)).status_code
    for path in INSIDE:
        for spelt in (path, path + "?x=1", "/" + path, "/x/.." + path, "/." + path, path.replace("e", "%65"),
                      "/%2e" + path, path + "/", path + "/.", path.upper(), path + ";x", path + "%00", path + "%20",
                      "/%2F" + path[1:], path + "#x"):  # fmt: skip
            status, body = raw(outside, f"GET {spelt} HTTP/1.1")
            assert status in {400, 404}, (spelt, status)
            assert "keyturn_logins" not in body
            assert '"database"' not in body
        assert raw(outside, f"GET https://localhost{path} HTTP/1.1")[0] in {400, 404}
        assert 404 == raw(outside, f"HEAD {path} HTTP/1.1")[0]


async def test_the_gateway_and_keyturn_have_the_same_limit_of_bodies(outside: Outside) -> None:
    """20 KiB are refused, with a length and without; 16 KiB reach Keyturn, which refuses their content."""
    for size, expected in ((20 * 1024, 413), (16 * 1024, 401)):
        head, tail = b'{"username": "nobody", "password": "wrong"', b"}"
        body = head + b" " * (size - len(head) - len(tail)) + tail
        async with outside.client(**{"Content-Type": "application/json"}) as client:
            answer = await client.post("/login", content=body)
            assert expected == answer.status_code, answer.text
            assert "application/problem+json" == answer.headers["content-type"]

            async def chunks(body: bytes = body) -> AsyncIterator[bytes]:
                yield body[:1000]
                yield body[1000:]

            assert expected == (await client.post("/login", content=chunks())).status_code


async def test_cookies_of_other_applications_do_not_reach_keyturn(outside: Outside) -> None:
    """A browser sends those of the whole domain: 15,000 bytes of them leave room for all other headers."""
    async with outside.client() as client:
        cookies = [("Cookie", f"c{number}=" + "x" * 4990) for number in range(3)]
        answer = await client.get("/me", headers=[*cookies, ("Authorization", "Bearer " + "x" * 4000)])
        assert (401, "invalid_token") == (answer.status_code, answer.json()["code"])


async def test_the_name_without_tls_only_redirects(outside: Outside) -> None:
    """Pages are redirected; a request that sends a password is refused, so that the mistake is noticed."""
    async with httpx2.AsyncClient(base_url=outside.clear, timeout=PATIENT_SECONDS) as client:
        led = await client.get("/.well-known/jwks.json?x=1")
        assert (301, f"{outside.url}/.well-known/jwks.json?x=1") == (led.status_code, led.headers["location"])
        refused = await client.post("/login", json={"username": "alice", "password": "x"})
        assert 403 == refused.status_code
        assert 404 != (await client.get("/metrics")).status_code
        assert "keyturn" not in (await client.get("/metrics")).text


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
def test_tls_begins_with_1_2(outside: Outside, version: ssl.TLSVersion) -> None:
    """Older versions get no connection, even from a client that supports them."""
    context = ssl.create_default_context(cafile=str(outside.certificate))
    with warnings.catch_warnings():  # Python warns about old versions
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", int(port_of(outside.url))), timeout=5) as connection:
        if version < ssl.TLSVersion.TLSv1_2:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(connection, server_hostname="localhost")
        else:
            with context.wrap_socket(connection, server_hostname="localhost") as spoken:
                assert "TLSv1.2" == spoken.version()
                assert re.match("ECDHE-", (spoken.cipher() or ("",))[0])


def test_nginx_names_the_tls_versions() -> None:
    """Debian's OpenSSL does not offer older versions; other builds do."""
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in (DEPLOY / "nginx" / "keyturn.conf").read_text("utf-8")


def raw(outside: Outside, line: str) -> tuple[int, str]:
    """Send a request line that no HTTP client would send, and return the answer."""
    context = ssl.create_default_context(cafile=str(outside.certificate))
    with (
        socket.create_connection(("127.0.0.1", int(port_of(outside.url))), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as spoken,
    ):
        spoken.sendall(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := spoken.recv(65536):
            answer += chunk
    return int(answer.split()[1]), answer.decode("latin-1")


def test_caddy_accepts_its_file() -> None:
    """The unmodified file is valid, and formatted as Caddy formats it."""
    file = str(DEPLOY / "caddy" / "Caddyfile")
    checked = subprocess.run(
        [find_program("caddy"), "adapt", "--config", file, "--adapter", "caddyfile", "--validate"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (0, False) == (checked.returncode, "not formatted" in checked.stderr), checked.stderr
