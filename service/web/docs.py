"""`/docs`: the OpenAPI document as a page to read and to try, which loads nothing from another host.

Swagger UI's files come with the `fastapi-offline` distribution; nothing of it is imported. Everything that the page
loads is served here, and its Content-Security-Policy keeps the browser to that: a machine without a way out can show
it, and no third party can change what runs beside people's tokens.
"""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse, Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI draws its icons from `data:` URLs of its style sheet, and shows a QR code that it got from a `blob:`."""

FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}

# Relative URLs, so that it works below a path of a proxy's, too.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Keyturn</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

# Without a validatorUrl of null it would send the document's address to a validator on another host.
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
"""


def find_folder() -> Path:
    """Where Swagger UI's files are."""
    found = find_spec("fastapi_offline")  # which imports nothing of it
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "static"


def routes() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    folder = find_folder()
    cached = {"Cache-Control": "public, max-age=3600"}

    @router.get("/docs")
    async def get_page() -> Response:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"})

    @router.get("/docs/start.js")
    async def get_start() -> Response:
        return Response(START, media_type="text/javascript", headers=cached)

    def serve(name: str, media_type: str) -> None:
        @router.get(f"/docs/{name}")
        async def get_file() -> Response:
            return FileResponse(folder / name, media_type=media_type, headers=cached)

    for name, media_type in FILES.items():
        serve(name, media_type)
    return router
