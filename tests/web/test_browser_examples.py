"""The examples for frontend developers compile, build and work in Chromium: of another origin, with a second factor.

They run unchanged, except for the ports.
"""

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from tests.harness import npm
from tests.harness.account_page import Site, Someone, serving
from tests.harness.chromium import Browser
from tests.harness.documents import blocks
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY
from tests.harness.spoiled import listening

pytestmark = pytest.mark.heavy

CLIENT = REPOSITORY / "clients" / "browser"
GUIDE = REPOSITORY / "docs" / "guides" / "browser-applications.md"
PACKAGES = (
    npm.TYPESCRIPT, "vite@6.4.6", "react@19.3.1", "react-dom@19.3.1", "@types/react@19.3.3",
    "vue@3.5.45", "vue-tsc@3.3.14", "@vitejs/plugin-vue@5.2.4",
)  # fmt: skip
"""For the examples of the guide. Vite 6 runs on the Node 18 of Debian 12."""
BUNDLER = """
import vue from "@vitejs/plugin-vue";

const input = ["page.html", "payment.html", "react.html", "vue.html"];
export default { plugins: [vue()], build: { target: "es2022", rollupOptions: { input } } };
"""
PAGES = {
    "page.html": """
      <p id="status"></p>
      <form>
        <input name="username"><input name="password" type="password"><input name="otp"><button>Log in</button>
      </form>
      <script type="module" src="/page.js"></script>
    """,
    "payment.html": """
      <button>Pay</button><p></p>
      <script type="module">
        import { pay } from "/payment.js";
        const answer = async () => (await pay()).text();
        document.querySelector("button").onclick = async () => {
          document.querySelector("p").textContent = await answer().catch((error) => error.code);
        };
      </script>
    """,
    "react.html": """
      <div id="app"></div>
      <script type="module">
        import { createElement } from "react";
        import { createRoot } from "react-dom/client";
        import { Greeting } from "/session.tsx";
        createRoot(document.getElementById("app")).render(createElement(Greeting));
      </script>
    """,
    "vue.html": """
      <div id="app"></div>
      <script type="module">
        import { createApp } from "vue";
        import App from "/App.vue";
        createApp(App).mount("#app");
      </script>
    """,
}
"""A page around each example of the guide."""


@dataclass
class Shop:
    """A service, the relying service of `examples/`, and the origin of an application that uses both."""

    site: Site
    relying: ASGIApp
    relying_url: str
    port: int

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"

    def write_ports(self, folder: Path) -> None:
        """Write the ports of this service and of the relying service into the files of an example."""
        for file in folder.iterdir():
            if file.suffix in {".js", ".ts", ".tsx", ".vue"}:
                text = file.read_text("utf-8").replace("http://localhost:8000", self.site.url)
                file.write_text(text.replace("http://localhost:9000", self.relying_url))

    def set_back(self, seconds: float) -> None:
        """Set the clock of the service back. The relying service has the real one, and so does Chromium."""
        self.site.clock.now = datetime.now(UTC) - timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def shop(chromium_browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    port, relying_port = free_port(), free_port()
    origin = f"http://localhost:{port}"
    with (
        serving(chromium_browser, tmp_path_factory.mktemp("shop"), cors_origins=(origin,)) as site,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("ISSUER", site.url)
        relying = runpy.run_path(str(REPOSITORY / "examples" / "relying_service.py"))["app"]
        allowed = CORSMiddleware(
            relying, allow_origins=[origin], allow_methods=["*"], allow_headers=["Authorization"],
            expose_headers=["WWW-Authenticate"],
        )  # fmt: skip
        with listening(allowed, port=relying_port):
            yield Shop(site, relying, f"http://localhost:{relying_port}", port)


def test_the_examples_of_the_guide(shop: Shop, tmp_path: Path) -> None:
    """Plain JavaScript, React and Vue: `tsc --strict`, `vue-tsc`, a build by Vite, and one session of all three."""
    npm.install(tmp_path, *PACKAGES)
    for block in blocks(GUIDE, "js", "tsx", "vue"):
        (tmp_path / block.title).write_text(block.text)
    shop.write_ports(tmp_path)
    for file in (CLIENT / "keyturn.js", CLIENT / "keyturn.d.ts"):
        shutil.copy(file, tmp_path)
    for name, text in PAGES.items():
        (tmp_path / name).write_text(f"<!doctype html><title>An example</title>{text}")
    (tmp_path / "vite.config.js").write_text(BUNDLER)
    plain = {"compilerOptions": npm.COMPILER, "files": ["keyturn.d.ts", "page.js", "payment.js"]}
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    every = {"compilerOptions": {**npm.COMPILER, "skipLibCheck": True}, "include": ["*.tsx", "*.vue"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(every))
    for command in (["tsc", "-p", "plain.json"], ["vue-tsc", "-p", "tsconfig.json"], ["vite", "build"]):
        npm.execute(tmp_path, *command)
    with listening(StaticFiles(directory=tmp_path / "dist"), port=shop.port):
        use_the_examples(shop)


def use_the_examples(shop: Shop) -> None:
    shop.set_back(400)
    ann = Someone.of(shop.site, "ann")
    at = ann.at
    status = "await page.locator('#status').getByText(values.text, { exact: true }).waitFor()"
    at.run("await page.goto(values.url)", url=f"{shop.origin}/page.html")
    at.run(status, text="Log in")
    fields = {"username": "ann", "password": "wrong", "otp": ann.code()}
    for password, text in (("wrong", "The credentials are not valid."), (ann.password, "Logged in as ann")):
        for name, value in {**fields, "password": password}.items():
            at.run("await page.locator(`[name=${values.name}]`).fill(values.value)", name=name, value=value)
        at.press("Log in")
        at.run(status, text=text)
    at.run(
        """
        kept.tab = await context.newPage();
        await kept.tab.goto(`${values.origin}/react.html`);
        await kept.tab.getByText("ann").getByRole("button", { name: "Log out" }).waitFor();
        await page.goto(`${values.origin}/payment.html`);
        """,
        origin=shop.origin,
    )
    shop.set_back(20)
    at.run("page.once('dialog', (dialog) => dialog.accept(values.code))", code=ann.code())
    at.press("Pay")
    at.see('{"paid by":"ann"}')
    at.run("await page.goto(`${values.origin}/vue.html`)", origin=shop.origin)
    at.run("await page.getByText('ann').getByRole('button', { name: 'Log out' }).waitFor()")
    at.press("Log out")
    at.see("Log in")
    at.run("await kept.tab.getByText('Log in').waitFor()")
    at.run("await page.reload()")
    at.see("Log in")
    assert [] == at.run("return context.cookies()")
    assert [] == at.faults()
    at.close()


def test_the_react_application(shop: Shop, tmp_path: Path) -> None:
    """Its own scripts check its types and build it. A user logs in, pays with a step-up, reloads, and logs out."""
    (tmp_path / "clients").mkdir()
    shutil.copytree(CLIENT, tmp_path / "clients" / "browser")
    application = tmp_path / "examples" / "react"
    ignored = shutil.ignore_patterns("node_modules", "dist", "package-lock.json", "keyturn.*")
    shutil.copytree(REPOSITORY / "examples" / "react", application, ignore=ignored)
    shop.write_ports(application / "src")
    pinned = json.loads((application / "package.json").read_text("utf-8"))
    versions = pinned["dependencies"] | pinned["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
    npm.install_listed(application)
    built = subprocess.run(["npm", "run", "build"], cwd=application, capture_output=True, text=True, check=False)
    assert 0 == built.returncode, built.stdout + built.stderr
    pages: Any = StaticFiles(directory=application / "dist", html=True)
    served = Starlette(routes=[Mount("/shop", shop.relying), Mount("/", pages)])
    with listening(served, port=shop.port):
        use_the_application(shop)


def use_the_application(shop: Shop) -> None:
    shop.set_back(400)
    bob = Someone.of(shop.site, "bob")
    at = bob.at
    fill = "await page.getByLabel(values.label).fill(values.text)"
    at.run("await page.goto(values.url)", url=shop.origin)
    for password in ("wrong", bob.password):
        at.run(fill, label="Username", text="bob")
        at.run(fill, label="Password", text=password)
        at.press("Log in")
        if password == "wrong":
            at.see("The credentials are not valid.")
    at.run(fill, label="Code", text=bob.code())
    at.press("Confirm")
    at.press("Show my orders")
    at.see('{"orders of":"bob"}')
    shop.set_back(20)
    at.press("Pay")
    at.run(fill, label="Code", text=bob.code())
    at.press("Confirm")
    at.see('{"paid by":"bob"}')
    at.run("await page.reload()")
    at.press("Show my orders")
    at.see('{"orders of":"bob"}')
    at.press("Log out")
    at.run("await page.getByLabel('Password').waitFor()")
    at.run("await page.reload()")
    at.run("await page.getByLabel('Password').waitFor()")
    assert [] == at.run("return context.cookies()")
    assert [] == at.faults()
    at.close()
