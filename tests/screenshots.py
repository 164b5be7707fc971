"""`make screenshots`: take the pictures of the account page in docs/images/ from a running service."""

import tempfile
from pathlib import Path

from PIL import Image

from tests.harness.account_page import Site, Someone, serving
from tests.harness.chromium import Profile, chromium
from tests.harness.servers import REPOSITORY

IMAGES = REPOSITORY / "docs" / "images"
SIZE = {"width": 960, "height": 720}
FIREFOX = "Mozilla/5.0 (Android 16; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0"
COLOURS = 64
"""A palette makes the files a third as large, and the page has few colours."""


def take(at: Profile, name: str, *, scheme: str) -> None:
    """Take a picture of the present view, in light or dark colours."""
    file = IMAGES / f"{name}-{scheme}.png"
    at.run(
        """
        await page.emulateMedia({ colorScheme: values.scheme, reducedMotion: "reduce" });
        await page.mouse.move(0, 0);
        await page.evaluate(() => document.activeElement.blur());
        await page.screenshot({ path: values.path });
        """,
        scheme=scheme,
        path=str(file),
    )
    with Image.open(file) as picture:
        reduced = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    reduced.save(file, optimize=True)


def take_all(site: Site) -> None:
    ada = Someone(site, site.profile(viewport=SIZE, deviceScaleFactor=1.25), "ada")
    ada.at.open(f"{site.page}#login")
    take(ada.at, "login", scheme="light")
    ada.sign_up(email="ada@example.com")
    ada.at.press("Log out")
    ada.at.heading("Log in")
    ada.log_in(site.profile(userAgent=FIREFOX))
    site.clock.advance(days=1)
    ada.log_in()
    ada.at.follow("Sessions")
    ada.at.see("This one")
    take(ada.at, "sessions", scheme="dark")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        packages, data = Path(folder) / "chromium", Path(folder) / "site"
        packages.mkdir()
        data.mkdir()
        with chromium(packages) as browser, serving(browser, data) as site:
            take_all(site)


if __name__ == "__main__":
    main()
