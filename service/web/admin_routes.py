"""The class of the routes below `/admin/users/{sub}`, whose `sub` may have slashes.

An imported `sub` may be `auth0|x/y` or even `a/sessions`. A client writes its slash as `%2F`, but servers decode the
path before it is routed (`path` of ASGI), and `a%2Fsessions` would be the sessions of the user `a`. So these routes
match the path as it was sent (`raw_path`), segment by segment.
"""

from urllib.parse import unquote

from starlette.routing import Match
from starlette.types import Scope

from service.web.edge import StrictJsonRoute


class UserRoute(StrictJsonRoute):
    """A route that splits the path at its slashes before it decodes the segments."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raw_path: bytes = scope.get("raw_path") or b""
        if b"%" not in raw_path:
            return super().matches(scope)
        match, found = super().matches({**scope, "path": _with_encoded_slashes(raw_path.decode("latin-1"))})
        if match is not Match.NONE:
            found["path_params"] = {name: unquote(value) for name, value in found["path_params"].items()}
        return match, found


def _with_encoded_slashes(raw_path: str) -> str:
    """Decode the path, except for slashes and percent signs within a segment."""
    segments = (unquote(segment).replace("%", "%25").replace("/", "%2F") for segment in raw_path.split("/"))
    return "/".join(segments)
