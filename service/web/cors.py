"""Cross-origin resource sharing (Fetch section 3.3): which browser scripts may call this service and read answers.

Every answer to an allowed origin has the headers, also a refusal: without them a script sees a network error instead
of 413 or 500. `EdgeMiddleware` adds them to the application's answers, and `wire` to the answers that it gives before
the application is called.

`/verify` and the paths below it have no CORS headers and answer no preflight: a gateway would take the answer to a
preflight for an admission. Paths below count because some gateways (Envoy) append the path of the original request.
"""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

METHODS = ("GET", "POST", "PATCH", "DELETE")
HEADERS = (
    "accept", "accept-language", "content-language", "content-type", "authorization", "keyturn-session",
    "x-request-id", "x-requested-with",
    # Tracing: W3C Trace Context and Baggage, Sentry, Zipkin, Jaeger, AWS X-Ray, Google Cloud, Elastic, New Relic,
    # Azure Application Insights, Dynatrace.
    "traceparent", "tracestate", "baggage", "sentry-trace", "b3", "uber-trace-id", "x-amzn-trace-id",
    "x-cloud-trace-context", "elastic-apm-traceparent", "newrelic", "request-id", "request-context", "x-dtpc",
)  # fmt: skip
"""Request headers that scripts may send. Of the headers for tracing, the service reads only `traceparent`."""
HEADER_FAMILIES = ("x-b3-", "x-datadog-", "x-instana-")
"""Prefixes of header names, for tracing libraries that add several headers."""
EXPOSED = "Retry-After, WWW-Authenticate, X-Request-Id"
MAX_AGE = 600
"""Seconds for which a browser may cache the answer to a preflight."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,64}")


class Cors:
    """The CORS headers and preflight answers for the origins that the operator names."""

    def __init__(self, origins: Sequence[str], headers: Sequence[str] = ()) -> None:
        """`origins` are in the form that browsers send; `headers` are allowed beside `HEADERS`."""
        self._origins = frozenset(origin.encode() for origin in origins)
        self._headers = (*HEADERS, *(name for name in headers if name not in HEADERS))

    @property
    def is_on(self) -> bool:
        return bool(self._origins)

    def answer_headers(self, path: str, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """Return the CORS headers of the answer to a request with this path and `Origin`."""
        if not self._origins or _is_gateways(path):
            return []
        if origin not in self._origins:
            return [(b"vary", b"Origin")]
        assert origin is not None
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", EXPOSED.encode()),
            (b"vary", b"Origin"),
        ]

    def origin_in(self, text: bytes) -> bytes | None:
        """Return the `Origin` header among the lines of a request's head, if it is an allowed origin."""
        found = re.search(rb"(?:^|\n)origin:[ \t]*([^\s]+)[ \t]*\r?\n", text, re.IGNORECASE)
        return found[1] if found is not None and found[1] in self._origins else None

    def preflight(self, scope: Scope) -> Response | None:
        """Return the answer to a preflight (Fetch section 3.3.2); `None` for any other request."""
        if scope["method"] != "OPTIONS" or not self._origins or _is_gateways(scope["path"]):
            return None
        given = Headers(scope=scope)
        if "origin" not in given or "access-control-request-method" not in given:
            return None
        requested = [name.strip().lower() for name in given.get("access-control-request-headers", "").split(",")]
        requested = [name for name in requested if name]
        refused = [
            what
            for what, is_allowed in (
                ("origin", given["origin"].encode("latin-1") in self._origins),
                ("method", given["access-control-request-method"] in METHODS),
                ("headers", all(map(self._is_allowed, requested))),
            )
            if not is_allowed
        ]
        family = dict.fromkeys(name for name in requested if name not in self._headers and self._is_allowed(name))
        headers = {
            "Access-Control-Allow-Methods": ", ".join(METHODS),
            "Access-Control-Allow-Headers": ", ".join([*self._headers, *family]),
            "Access-Control-Max-Age": str(MAX_AGE),
            "Vary": "Access-Control-Request-Method, Access-Control-Request-Headers",
        }
        if refused:
            return PlainTextResponse(f"Disallowed CORS {', '.join(refused)}", 400, headers)
        return PlainTextResponse("OK", 200, headers)

    def _is_allowed(self, name: str) -> bool:
        return name in self._headers or (name.startswith(HEADER_FAMILIES) and _NAME.fullmatch(name) is not None)


def _is_gateways(path: str) -> bool:
    return path.startswith("/verify")
