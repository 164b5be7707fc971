"""The ASGI application: the endpoints in front of the components."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI

from service import VERSION
from service.clock import Clock, system_clock
from service.components import make_components, opened
from service.outgoing import check_authorities
from service.settings import Settings
from service.storage.ephemeral import EphemeralUnavailable, probe
from service.storage.timeouts import STORE_TIMEOUTS, StoreTimeouts
from service.telemetry import metrics
from service.users.passwords import Cost
from service.waits import WAITS, Waits
from service.web import (
    account,
    deletion,
    emails,
    login,
    mfa,
    openapi,
    password_reset,
    problems,
    signup,
    tokens,
    verify,
    wellknown,
)
from service.web.context import WebContext, make_web_context
from service.web.cors import Cors
from service.web.edge import EdgeMiddleware, route_of

if TYPE_CHECKING:
    from service.operations.tracing import Tracing

WEB_MODULES = (verify, tokens, signup, login, mfa, account, deletion, emails, password_reset, wellknown)
"""The modules whose endpoints every deployment has. Routes are tried in this order: the busiest first."""


def create_app(
    settings: Settings,
    clock: Clock = system_clock,
    *,
    hash_cost: Cost | None = None,
    timeouts: StoreTimeouts = STORE_TIMEOUTS,
    waits: Waits = WAITS,
    tracing: "Tracing | None" = None,
) -> FastAPI:
    """Make the ASGI application and its components. The lifespan of the application opens the components."""
    if settings.otlp_endpoint is not None:
        from service.operations.tracing import Tracing  # an SDK of 10 MB that is needed only for tracing

        check_authorities()
        tracing = Tracing(settings.otlp_endpoint)
    parts = make_components(settings, clock, hash_cost=hash_cost, timeouts=timeouts, waits=waits, tracing=tracing)
    web = make_web_context(parts)

    app = FastAPI(
        title="Keyturn",
        version=VERSION,
        summary="A password and a second factor go in, short-lived JSON Web Tokens come out.",
        lifespan=lambda _app: _running(web, tracing),
        redirect_slashes=False,
        docs_url=None,  # web/docs.py has the page: FastAPI's would load its code from other hosts
        redoc_url=None,
        openapi_url="/openapi.json" if settings.serves_docs else None,
    )
    metrics.BUILD.labels(VERSION).set(1)
    app.state.parts = parts  # for tests that run an operator's command on this service
    app.state.qr_renderer = web.qr_renderer  # for tests that draw at a moment of their choice
    for router in _routers(settings, web):
        # Not include_router: since FastAPI 0.13x it nests routers, and each of them costs time at every request.
        app.router.routes.extend(router.routes)
    problems.install(app)
    openapi.install(app)
    _add_middleware(app, settings, tracing)
    return app


def _routers(settings: Settings, web: WebContext) -> Iterator[APIRouter]:
    """Yield the endpoints. The modules of optional endpoints are loaded only if their settings are on."""
    for module in WEB_MODULES:
        yield module.routes(web)
    if settings.admin_api == "on":
        from service.web import admin_clients, admin_events, admin_invitations, admin_sessions, admin_users

        for admin in (admin_users, admin_sessions, admin_events, admin_clients, admin_invitations):
            yield admin.routes(web)
    if settings.account_page == "on":
        from service.web.account_page import routes as account_page

        yield account_page.routes(settings)
    if settings.serves_docs:
        from service.web import docs

        yield docs.routes()


def _add_middleware(app: FastAPI, settings: Settings, tracing: "Tracing | None") -> None:
    """Add the middleware. What is added last gets a request first."""
    if tracing is not None:
        from service.operations.tracing import TracedApplication

        app.add_middleware(TracedApplication, tracing=tracing, route_of=route_of)
    paths = [getattr(route, "path", "") for route in app.router.routes]
    cors = Cors(settings.cors_origins, settings.cors_headers)
    # /verify has no queue of `fair_start`: with one it would answer a fifth fewer requests per second.
    app.add_middleware(EdgeMiddleware, paths=paths, unqueued=["/verify"], cors=cors)


@asynccontextmanager
async def _running(web: WebContext, tracing: "Tracing | None") -> AsyncIterator[None]:
    """Open the components and run the background tasks; close everything afterwards."""
    try:
        async with opened(web.parts), web.parts.housekeeping.running():
            with suppress(EphemeralUnavailable):  # the reason is in the log, and Redis may come back
                await probe(web.parts.ephemeral)
            yield
    finally:
        await web.qr_renderer.close()
        if tracing is not None:
            await tracing.close()
