"""Cookie sessions in Chromium, without TLS on loopback: what pages of the site and of other origins can do."""

import functools
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest

from tests.harness.browsers import COOKIE
from tests.harness.chromium import Profile, chromium
from tests.harness.databases import PATIENT_SECONDS
from tests.harness.people import PASSWORD
from tests.harness.ports import free_port
from tests.harness.servers import keyturn

CALL = """
const call = async (path, body, { header = "cookie", ...options } = {}) => {
  const headers = { ...(header && { "Keyturn-Session": header }), ...options.headers };
  if (!(body instanceof URLSearchParams)) headers["Content-Type"] = "application/json";
  const sent = { method: "POST", credentials: "include", ...options, headers };
  sent.body = body instanceof URLSearchParams ? body : JSON.stringify(body);
  const answer = await fetch(values.url + path, sent);
  return { status: answer.status, ...(await answer.json().catch(() => ({}))) };
};
const refresh = (options) => call("/token", new URLSearchParams({ grant_type: "refresh_token" }), options);
const logIn = () => call("/login", values.user);
"""


DOMAIN = "shop.localhost"
"""In Chromium its hosts are loopback, have `Secure` cookies without TLS, and are one site with each other."""
HOSTS = {"url": "auth", "page": "app", "attacker": "evil"}

TOSS = """
const spellings = [
  "__Host-keyturn-refresh=", "__HOST-KEYTURN-REFRESH=", "\\t__Host-keyturn-refresh=", "=__Host-keyturn-refresh=",
  "\\u2000__Host-keyturn-refresh=", "\\u0085__Host-keyturn-refresh=", "__Host-keyturn-refresh\\u00a0=",
];
for (const spelling of ["control=", ...spellings]) {
  for (const path of ["/", "/token"]) {
    document.cookie = `${spelling}${values.user.token}; Domain=shop.localhost; Path=${path}; Secure`;
  }
}
"""
"""Set cookies for every host of the domain: with the name, and with others that a server might take for it."""
WHO = """
const base64 = (token) => token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
const who = ({ access_token: token }) => JSON.parse(atob(base64(token))).username;
"""


@dataclass
class Site:
    """A service at `localhost`, and pages of other ports."""

    url: str
    page: str
    """Of the same site, and allowed."""
    other_site: str
    """Allowed, but at another host."""
    attacker: str
    """Of the same site, and not allowed."""
    user: dict[str, str]

    def in_domain(self) -> "Site":
        """Return the same service as a host of `shop.localhost`, which also has the page and the attacker."""
        at = {name: getattr(self, name).replace("localhost", f"{host}.{DOMAIN}") for name, host in HOSTS.items()}
        return replace(self, **at)

    def run(self, profile: Profile, origin: str, script: str) -> Any:
        """Open a page of this origin and run the body of an asynchronous function in it."""
        evaluated = f"async (values) => {{ {CALL} {script} }}"
        return profile.run(
            f"await page.goto(values.origin); return page.evaluate({evaluated}, values)",
            origin=origin, url=self.url, user=self.user,
        )  # fmt: skip


class Page(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "index.html").write_text("<!doctype html><title>A page</title><h1>A page</h1>")
    ports = [free_port(), free_port()]
    servers = [
        http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Page, directory=str(folder)))
        for port in ports
    ]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    page, other_site, attacker = (
        f"http://localhost:{ports[0]}", f"http://127.0.0.1:{ports[0]}", f"http://localhost:{ports[1]}",
    )  # fmt: skip
    settings = {
        "KEYTURN_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "KEYTURN_CORS_ORIGINS": f"{page},{other_site},{page.replace('localhost', f'app.{DOMAIN}')}",
    }
    with keyturn(settings) as served:
        url = served.url.replace("127.0.0.1", "localhost")
        yield Site(url, page, other_site, attacker, {"username": "alice", "password": PASSWORD})
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def profile(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profile]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        opened = browser.profile("alice")
        signed_up = site.run(opened, site.page, "return call('/signup', values.user, { header: '' })")
        assert 201 == signed_up["status"]
        yield opened


def cookies(profile: Profile) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = profile.run("return context.cookies()")
    return found


def test_a_page_of_the_site_keeps_its_session(site: Site, profile: Profile) -> None:
    """Chromium stores the cookie on loopback; no script sees it; twenty refreshes at once leave a valid one."""
    login, seen = site.run(profile, site.page, "return [await logIn(), document.cookie]")
    assert (200, False, "") == (login["status"], "refresh_token" in login, seen)
    (cookie,) = cookies(profile)
    assert (COOKIE, "/", True, True, "Strict") == (
        cookie["name"], cookie["path"], cookie["secure"], cookie["httpOnly"], cookie["sameSite"],
    )  # fmt: skip
    script = "return (await Promise.all(Array.from({ length: 20 }, () => refresh()))).map((answer) => answer.status)"
    assert [200] * 20 == site.run(profile, site.page, script)
    refreshed = site.run(profile, site.page, "return refresh()")
    assert (200, False) == (refreshed["status"], "refresh_token" in refreshed)
    assert "invalid_request" == site.run(profile, site.page, "return refresh({ header: '' })")["error"]
    assert "invalid_grant" == site.run(profile, site.page, "return refresh({ credentials: 'omit' })")["error"]
    assert 200 == site.run(profile, site.page, "return refresh()")["status"]


def test_other_pages_do_not_use_the_session(site: Site, profile: Profile) -> None:
    """A page of the same site that is not allowed fails its preflight; its plain requests and forms do nothing."""
    site.run(profile, site.page, "return logIn()")
    (before,) = cookies(profile)
    plain = """
        const failed = await refresh().then(() => false, () => true);
        await refresh({ header: "", mode: "no-cors" });
        await call("/login", values.user, { mode: "no-cors" }).catch(() => {});
        return failed;
    """
    assert site.run(profile, site.attacker, plain) is True
    form = """
        document.body.innerHTML = `<form method=post action="${values.url}/token">
          <input name=grant_type value=refresh_token></form>`;
        document.forms[0].submit();
    """
    site.run(profile, site.attacker, form)
    profile.run("await page.waitForURL(values.url + '/token')", url=site.url)
    assert "refresh_token is missing" in profile.text()
    assert [before["value"]] == [cookie["value"] for cookie in cookies(profile)]
    assert 200 == site.run(profile, site.page, "return refresh()")["status"]


def test_an_allowed_page_of_another_site_has_no_cookie(site: Site, profile: Profile) -> None:
    """`SameSite=Strict`: the browser neither sends the cookie nor stores one."""
    site.run(profile, site.page, "return logIn()")
    (before,) = cookies(profile)
    login, refreshed = site.run(profile, site.other_site, "return [await logIn(), await refresh()]")
    assert (200, "invalid_grant") == (login["status"], refreshed["error"])
    assert [before["value"]] == [cookie["value"] for cookie in cookies(profile)]


def test_a_logout_removes_the_cookie(site: Site, profile: Profile) -> None:
    """The browser deletes it, and the session has ended."""
    script = """
        const { access_token } = await logIn();
        const ended = await call("/logout", {}, { headers: { Authorization: `Bearer ${access_token}` } });
        return [ended.status, (await refresh()).error];
    """
    assert [204, "invalid_grant"] == site.run(profile, site.page, script)
    assert [] == cookies(profile)


def test_a_sibling_host_plants_no_session(site: Site, profile: Profile) -> None:
    """Cookie tossing: cookies for the whole domain log nobody in, and neither replace nor stop the user's session."""
    profile.run("await context.clearCookies()")
    mallory = {"username": "mallory", "password": PASSWORD}
    httpx2.post(f"{site.url}/signup", json=mallory, timeout=PATIENT_SECONDS).raise_for_status()
    token = (
        httpx2.post(f"{site.url}/login", json=mallory, timeout=PATIENT_SECONDS)
        .raise_for_status()
        .json()["refresh_token"]
    )
    site = site.in_domain()
    evil = replace(site, user={"token": token})
    evil.run(profile, site.attacker, TOSS)
    sent = profile.run("return (await context.cookies(values.url)).map(({ name }) => name)", url=f"{site.url}/token")
    assert ["control", "control"] == [name for name in sent if name == "control"], "the domain's cookies arrive"
    assert COOKIE not in sent
    assert "invalid_grant" == site.run(profile, site.page, "return (await refresh()).error")
    assert "alice" == site.run(profile, site.page, f"{WHO} return who(await logIn())")
    evil.run(profile, site.attacker, TOSS)
    assert "alice" == site.run(profile, site.page, f"{WHO} return who(await refresh())")
    assert site.run(profile, site.attacker, "return refresh().then(() => false, () => true)") is True
    assert "alice" == site.run(profile, site.page, f"{WHO} return who(await refresh())")
    profile.run("await context.clearCookies()")
