"""`/docs`: a page that shows the OpenAPI document and can send requests. It loads nothing from another host.

Swagger UI's files come with the `fastapi-offline` distribution; none of its code is imported. This service serves
every file that the page loads, and the page's Content-Security-Policy forbids other sources. So the page works on a
machine without internet access, and no third party can change scripts that may handle the users' tokens.
"""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse, Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI loads its icons from `data:` URLs in its style sheet, and shows a received QR code as a `blob:` URL."""

FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}

# Relative URLs, so that the page also works below a path of a proxy.
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

# If validatorUrl were not null, Swagger UI would send the document's URL to a validator on another host.
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
"""


def find_folder() -> Path:
    """Return the folder with Swagger UI's files."""
    found = find_spec("fastapi_offline")  # find_spec does not import the package
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
