"""What the routes of every web module are made from."""

from dataclasses import dataclass

from service.components import Components
from service.settings import Settings
from service.web.bearers import Bearers
from service.web.caller import Callers
from service.web.cookie_session import CookieSessions
from service.web.qrcodes import QrRenderer


@dataclass(frozen=True, slots=True)
class WebContext:
    """The components, and what the endpoints share: the caller of a request, the bearer of its token, its cookie."""

    parts: Components
    bearers: Bearers
    callers: Callers
    cookie_sessions: CookieSessions
    qr_renderer: QrRenderer

    @property
    def settings(self) -> Settings:
        return self.parts.settings


def make_web_context(parts: Components) -> WebContext:
    settings = parts.settings
    callers = Callers(settings.trusted_proxies, settings.forwarded_header)
    cookie_sessions = CookieSessions([settings.issuer_origin, *settings.cors_origins])
    return WebContext(parts, Bearers(parts.bearer_auth), callers, cookie_sessions, QrRenderer())
