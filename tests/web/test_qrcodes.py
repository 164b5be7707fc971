"""QR codes: what they show, and the thread that draws them until the service stops."""

import asyncio
import io
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image, ImageChops, ImageFilter

from service.app import create_app
from service.errors import Busy
from service.factors import totp
from service.settings import Settings
from service.users.passwords import CHEAPEST
from service.web import qrcodes
from service.web.qrcodes import QrRenderer
from tests.harness.databases import PATIENT
from tests.harness.servers import find_program, make_schema

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
SHORT_URI = totp.provisioning_uri(SECRET, username="alice", issuer="Keyturn")
LONGEST_URI = totp.provisioning_uri(SECRET, username="x" * 64, issuer="\u00e9" * 64)


@pytest.mark.parametrize("uri", [SHORT_URI, LONGEST_URI])
def test_png_and_svg_show_the_same_squares(uri: str) -> None:
    """Both images are well-formed and black in the same places, with the quiet zone of four that readers need."""
    picture = Image.open(io.BytesIO(qrcodes.png(uri)))
    picture.load()
    assert "PNG" == picture.format
    side = picture.width // 10
    assert (side * 10, side * 10) == picture.size
    black = {
        (x, y)
        for x in range(side)
        for y in range(side)
        if picture.convert("L").getpixel((x * 10 + 5, y * 10 + 5)) == 0
    }
    assert black
    assert 4 == min(x for x, _ in black) == min(y for _, y in black)
    assert side - 5 == max(x for x, _ in black) == max(y for _, y in black)

    svg = ElementTree.fromstring(qrcodes.svg(uri))  # noqa: S314 -- our own drawing
    assert "{http://www.w3.org/2000/svg}svg" == svg.tag
    assert f"0 0 {side} {side}" == svg.attrib["viewBox"]
    (path,) = svg.findall("{http://www.w3.org/2000/svg}path")
    squares = re.findall(r"M([\d.]+),([\d.]+)H", path.attrib["d"])
    assert black == {(int(float(x)), int(float(y))) for x, y in squares}


@pytest.mark.parametrize("uri", [SHORT_URI, LONGEST_URI])
def test_a_reader_decodes_the_uri_from_the_png(uri: str, tmp_path: Path) -> None:
    """An independent reader decodes exactly the URI."""
    zbarimg = shutil.which("zbarimg")
    if zbarimg is None:
        pytest.skip("zbarimg is not installed: no independent reader checked the QR codes")
    picture = tmp_path / "code.png"
    picture.write_bytes(qrcodes.png(uri))
    seen = subprocess.run([zbarimg, "--quiet", "--raw", str(picture)], capture_output=True, text=True, check=True)
    assert uri == seen.stdout.removesuffix("\n")


def photograph(svg: bytes, folder: Path, *, ground: int, width: int) -> str:
    """Return what zbar reads from a photograph of a screen: the SVG on a grey page, out of focus and with noise."""
    rsvg, zbarimg = find_program("rsvg-convert"), find_program("zbarimg")
    drawn = subprocess.run([rsvg, "--width", str(width)], input=svg, capture_output=True, check=True).stdout
    code = Image.open(io.BytesIO(drawn)).convert("LA")
    page = Image.new("LA", (width + 200, width + 200), (ground, 255))
    page.paste(code, (100, 100), code.getchannel("A"))
    noise = Image.frombytes("L", page.size, random.Random(7).randbytes(page.width * page.height))  # noqa: S311
    noise = noise.point(lambda value: 128 + (value - 128) // 8)
    seen = ImageChops.add(page.convert("L").filter(ImageFilter.GaussianBlur(1.5)), noise, 1, -128)
    seen.save(folder / "seen.png")
    read = subprocess.run(
        [zbarimg, "--quiet", "--raw", str(folder / "seen.png")], capture_output=True, text=True, check=False
    )
    return read.stdout.removesuffix("\n")


@pytest.mark.parametrize(("uri", "width"), [(SHORT_URI, 600), (LONGEST_URI, 900)])
def test_a_reader_decodes_the_uri_from_the_svg_on_a_dark_page(uri: str, width: int, tmp_path: Path) -> None:
    """The SVG has a white background and a quiet zone; without them the same code cannot be read."""
    svg = qrcodes.svg(uri)
    without = re.sub(rb"<[\w:]*rect [^>]*/>", b"", svg)
    assert svg != without
    for ground in (0, 18):
        assert uri == photograph(svg, tmp_path, ground=ground, width=width)
        # Without noise and blur the code would be read even on some dark pages, and the test would prove nothing.
        assert uri != photograph(without, tmp_path, ground=ground, width=width)
    assert uri == photograph(without, tmp_path, ground=255, width=width), "only the white background was missing"


# --- the thread ---


def drawing_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("draw")}


def held(may_go_on: threading.Event, began: threading.Event | None = None) -> Callable[[str], bytes]:
    """Return a function that draws when it may go on."""

    def draw(uri: str) -> bytes:
        if began is not None:
            began.set()
        may_go_on.wait(10)
        return uri.encode()

    return draw


async def test_images_wait_in_a_short_queue() -> None:
    """One image is drawn at a time; a request that finds eight waiting is refused for now."""
    qr_renderer, may_go_on = QrRenderer(), threading.Event()

    def draw(uri: str) -> bytes:
        may_go_on.wait(10)
        return uri.encode()

    drawing = [asyncio.create_task(qr_renderer.draw(draw, "x")) for _ in range(9)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await qr_renderer.draw(draw, "x")
    may_go_on.set()
    assert [b"x"] * 9 == await asyncio.gather(*drawing)
    assert b"y" == await qr_renderer.draw(draw, "y")
    await qr_renderer.close()


async def test_drawings_under_way_end_before_the_thread() -> None:
    """The one that is being drawn and those that wait get their images; the thread is gone afterwards."""
    before, qr_renderer = drawing_threads(), QrRenderer()
    may_go_on, began = threading.Event(), threading.Event()
    drawings = [asyncio.create_task(qr_renderer.draw(held(may_go_on, began), "x")) for _ in range(3)]
    await asyncio.to_thread(began.wait, 10)
    closing = asyncio.create_task(qr_renderer.close())
    await asyncio.sleep(0)
    assert not closing.done()
    with pytest.raises(Busy):
        await qr_renderer.draw(held(may_go_on), "y")
    may_go_on.set()
    await closing
    assert [b"x"] * 3 == await asyncio.gather(*drawings)
    assert not drawing_threads() - before


async def test_a_drawing_that_fails_does_not_keep_the_service_from_stopping() -> None:
    """Its request gets the error, and the thread ends."""
    before, qr_renderer = drawing_threads(), QrRenderer()
    may_go_on = threading.Event()

    def fail(_uri: str) -> bytes:
        may_go_on.wait(10)
        raise RuntimeError("no image")

    drawing = asyncio.create_task(qr_renderer.draw(fail, "x"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(qr_renderer.close())
    may_go_on.set()
    await closing
    with pytest.raises(RuntimeError, match="no image"):
        await drawing
    assert not drawing_threads() - before


async def test_a_renderer_is_closed_without_a_drawing_and_twice() -> None:
    """Closing without a drawing, or again, does nothing."""
    qr_renderer = QrRenderer()
    await qr_renderer.close()
    await qr_renderer.close()
    with pytest.raises(Busy):
        await qr_renderer.draw(str.encode, "x")


async def test_the_service_ends_its_thread(embedded: dict[str, Any]) -> None:
    """The lifespan closes the renderer: a drawing under way at the stop ends with its image."""
    settings = Settings(**embedded)
    make_schema(settings)
    app = create_app(settings, hash_cost=CHEAPEST, timeouts=PATIENT)
    before, may_go_on = drawing_threads(), threading.Event()
    async with app.router.lifespan_context(app):
        drawing = asyncio.create_task(app.state.qr_renderer.draw(held(may_go_on), "x"))
        await asyncio.sleep(0)
        assert 1 == len(drawing_threads() - before)
        asyncio.get_running_loop().call_later(0.05, may_go_on.set)
    assert b"x" == await drawing
    assert not drawing_threads() - before
