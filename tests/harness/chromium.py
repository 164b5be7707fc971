"""Chromium and Firefox, each driven by playwright-core in a process of node. Tests send steps in JavaScript."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.harness import npm
from tests.harness.servers import find_program, missing

PACKAGES = ("playwright-core@1.64.1", "axe-core@4.14.1")
"""Version 1.65 of playwright-core does not start Debian's Firefox 153: it sends a command that came later."""


class Browser:
    """One Chromium or Firefox. Each profile in it has its own cookies, storage and page."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def profile(self, name: str, **options: Any) -> "Profile":
        """Return a profile; `options` are those of a new context of Playwright."""
        return Profile(self, name, options)

    def send(self, profile: str, options: dict[str, Any], script: str | None, values: dict[str, Any]) -> Any:
        step = {"profile": profile, "options": options, "script": script, "values": values}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(step) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["result"]


class Profile:
    """A user's browser."""

    def __init__(self, browser: Browser, name: str, options: dict[str, Any]) -> None:
        self._browser, self._name, self._options = browser, name, options

    def run(self, script: str, **values: Any) -> Any:
        """Run the body of an asynchronous function of `page`, `context`, `faults`, `violations`, `kept`, `values`.

        Steps leave values for later ones in `kept`, an object of this profile: all profiles share one global object.
        """
        return self._browser.send(self._name, self._options, script, values)

    def open(self, url: str) -> None:
        """Load a page from the beginning, even if only the fragment differs."""
        self.run(
            "await page.goto('about:blank'); await page.goto(values.url); await page.waitForSelector('h1')", url=url
        )

    def press(self, name: str, *, role: str = "button") -> None:
        self.run(
            "await page.getByRole(values.role, { name: values.name, exact: true }).click()", role=role, name=name
        )

    def follow(self, name: str) -> None:
        self.press(name, role="link")

    def fill(self, **fields: str) -> None:
        """Fill fields of the topmost form by their names."""
        self.run(
            """
            const place = (await page.locator('dialog').count()) ? page.locator('dialog') : page.locator('main');
            for (const [name, text] of Object.entries(values)) {
              await place.locator(`input[name="${name}"]:not([aria-hidden])`).fill(text);
            }
            """,
            **fields,
        )

    def see(self, text: str) -> None:
        """Wait until a text is visible."""
        self.run("await page.getByText(values.text).first().waitFor()", text=text)

    def text(self, selector: str = "body") -> str:
        return str(self.run("return page.locator(values.selector).first().innerText()", selector=selector))

    def heading(self, text: str) -> None:
        """Wait until the view has this heading."""
        self.run("await page.getByRole('heading', { name: values.text, level: 1, exact: true }).waitFor()", text=text)

    def url(self) -> str:
        return str(self.run("return page.url()"))

    def scan(self, folder: Path) -> str:
        """Return what the picture of the QR code says, as a phone reads it from the screen."""
        if shutil.which("zbarimg") is None:
            missing("zbarimg")
        picture = folder / "screen.png"
        self.run(
            "await page.locator('canvas').waitFor(); await page.screenshot({ path: values.path })", path=str(picture)
        )
        done = subprocess.run(["zbarimg", "-q", "--raw", str(picture)], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def faults(self) -> list[str]:
        """Return errors of scripts, and what the policy has blocked."""
        found: list[str] = self.run("return faults.splice(0)")
        return found

    def close(self) -> None:
        self._browser.send(self._name, self._options, None, {})


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start Chromium. Where it or npm is absent: skip, or fail in CI.

    Debian's `chromium-headless-shell` has the same engine and no window: the tests take three fifths of the processor
    time that they take with `chromium`, which is used where the former is not installed.
    """
    program = shutil.which("chromium-headless-shell") or find_program("chromium")
    with _driven("chromium", program, folder) as browser:
        yield browser


@contextlib.contextmanager
def firefox(folder: Path) -> Iterator[Browser]:
    """Start Debian's Firefox. Where it or npm is absent: skip, or fail in CI."""
    with _driven("firefox", find_program("firefox-esr"), folder) as browser:
        yield browser


@contextlib.contextmanager
def _driven(engine: str, program: str, folder: Path) -> Iterator[Browser]:
    npm.install(folder, *PACKAGES)
    shutil.copy(Path(__file__).parent / "chromium.mjs", folder)
    environment = {name: value for name, value in os.environ.items() if not re.match("(?i)(https?|all)_proxy$", name)}
    process = subprocess.Popen(
        ["node", "chromium.mjs", engine, program],
        cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Browser(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
