"""What the routes of every web module are made from."""

from dataclasses import dataclass

from service.components import Components
from service.settings import Settings
from service.web.bearers import Bearers
from service.web.caller import Callers
from service.web.qrcodes import QrRenderer


@dataclass(frozen=True, slots=True)
class WebContext:
    """The components, and what the endpoints share: the caller of a request, and the bearer of its token."""

    parts: Components
    bearers: Bearers
    callers: Callers
    qr_renderer: QrRenderer

    @property
    def settings(self) -> Settings:
        return self.parts.settings


def make_web_context(parts: Components) -> WebContext:
    callers = Callers(parts.settings.trusted_proxies, parts.settings.forwarded_header)
    return WebContext(parts, Bearers(parts.bearer_auth), callers, QrRenderer())
