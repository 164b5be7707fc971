"""QR codes of provisioning URIs, as images, and the thread that draws them."""

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from service.errors import Busy
from service.users.passwords import lower_thread_priority


class QrRenderer:
    """Draws QR codes in one thread. The library is pure Python: several threads would starve the event loop."""

    MAX_QUEUED = 8

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "draw", initializer=lower_thread_priority)
        self._drawings: set[asyncio.Future[bytes]] = set()
        self._is_closed = False

    async def draw(self, draw: Callable[[str], bytes], uri: str) -> bytes:
        """Draw a QR code. Raises `Busy` if too many requests wait, or if the service stops."""
        if self._is_closed or len(self._drawings) > self.MAX_QUEUED:
            raise Busy
        drawing = asyncio.get_running_loop().run_in_executor(self._thread, draw, uri)
        self._drawings.add(drawing)
        drawing.add_done_callback(self._drawings.discard)
        return await drawing

    async def close(self) -> None:
        """Refuse further drawings, and end the thread when those that were accepted are done, which takes moments."""
        self._is_closed = True
        if self._drawings:
            await asyncio.wait(self._drawings)
        self._thread.shutdown()


def png(uri: str) -> bytes:
    """Draw the URI as a QR code, a PNG image. This takes milliseconds: call it off the event loop."""
    import qrcode  # Pillow takes 10 MB of memory, which a worker without enrolments does not need

    out = io.BytesIO()
    qrcode.make(uri).save(out)
    return out.getvalue()


def svg(uri: str) -> bytes:
    """Draw the URI as a QR code in SVG. On dark pages QR readers need its white background as the quiet zone."""
    import qrcode
    from qrcode.image.svg import SvgPathFillImage

    out = io.BytesIO()
    qrcode.make(uri, image_factory=SvgPathFillImage).save(out)
    return out.getvalue()
