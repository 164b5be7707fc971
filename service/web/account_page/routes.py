"""`/account/`: the page, its files and their policy; `/` and `/account` redirect to it.

The policy allows scripts, styles, pictures and requests of this origin and nothing else. It has no exception for
inline code, and the browser refuses every string that a script would turn into code or markup (Trusted Types).
"""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.errors import NotFound
from service.roles import EVERYONE
from service.settings import Settings
from service.web.account_page.branding import read_style
from service.web.account_page.files import PageFile, PageFiles

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
"""`img-src` is for the icon. The QR code is drawn on a canvas, because its image needs a bearer token."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
}

LANGUAGES = ("en", "de", "fr", "es")
"""The languages of the page; the first one is that of browsers with another language."""

FOR_EVER = "public, max-age=31536000, immutable"
CHECK_AGAIN = "no-cache"


def routes(settings: Settings) -> APIRouter:
    style = None if settings.account_style is None else read_style(settings.account_style)
    page = PageFiles(name=settings.totp_issuer, config=config_of(settings), style=style)
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @router.get("/account")
    async def get_redirect(request: Request) -> Response:
        # Relative: behind a proxy that strips a path, the service does not know its own. Browsers keep the fragment,
        # which has the token of a link.
        query = request.scope["query_string"].decode("latin-1")
        return Response(status_code=307, headers={"Location": "account/" + (query and f"?{query}")})

    @router.get("/account/")
    async def get_document(request: Request) -> Response:
        return answer(request, page.document, cache=CHECK_AGAIN)

    @router.get("/account/{folder}/{name:path}")
    async def get_file(folder: str, name: str, request: Request) -> Response:
        file = page.files.get(name)
        if file is None:
            raise NotFound
        # While replicas are being updated, the document of one version may ask a replica of the other for its files.
        return answer(request, file, cache=FOR_EVER if folder == page.folder else CHECK_AGAIN)

    return router


def config_of(settings: Settings) -> dict[str, Any]:
    """Return what the code of the page needs to know. The document shows it to everyone."""
    recovery = settings.recovery
    return {
        "name": settings.totp_issuer,
        "languages": LANGUAGES,
        "signup": settings.signup,
        "messages": settings.message_transport is not None,
        "recovery": None if recovery is None else int(recovery.total_seconds()),
        "deletion": settings.deletion_delay,
        "lengths": [settings.password_min_length, settings.min_length_alone],
        "mfaRequired": EVERYONE in settings.require_mfa,
        "rememberDays": settings.remember_device_days,
        "returnOrigins": settings.cors_origins,
    }


def answer(request: Request, file: PageFile, *, cache: str) -> Response:
    """Answer with a file, compressed if the browser takes that, or with 304 if it has it already."""
    is_compressed = accepts_gzip(request.headers.get("accept-encoding", ""))
    etag = file.etag(is_compressed=is_compressed)
    headers = {**HEADERS, "Cache-Control": cache, "ETag": etag}
    if etag in known_tags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    if is_compressed:
        headers["Content-Encoding"] = "gzip"
    content = file.compressed if is_compressed else file.content
    return Response(content, headers={**headers, "Content-Type": file.media_type})


def known_tags(if_none_match: str) -> set[str]:
    """Return the tags of an `If-None-Match` (RFC 9110 section 13.1.2), which are compared as weak ones."""
    return {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an `Accept-Encoding` allows gzip (RFC 9110 section 12.5.3)."""
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in {"gzip", "x-gzip"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
