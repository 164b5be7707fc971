"""Routes of FastAPI that are completed when a request reaches them, for the services of one test process."""

import functools
from collections.abc import Callable
from typing import Any

from fastapi import routing
from starlette.routing import compile_path

_make_route = routing.APIRoute.__init__
_compile_path = functools.cache(compile_path)
_find_source = routing._extract_endpoint_context
_sources: dict[object, Any] = {}
"""The file and the line of an endpoint by its code: each service has functions of its own of the same code."""


def complete_routes_late() -> None:
    """Let `create_app` leave out what a test does not use: of its forty routes, most tests request fewer than five.

    A route that a request matches, or whose attributes the OpenAPI document reads, is made then, by FastAPI itself.
    The servers that tests start, and the test that reads the document, make all of them.
    """
    routing.APIRoute.__init__ = _note_route  # type: ignore[assignment, method-assign]
    type.__setattr__(routing.APIRoute, "__getattr__", _complete_route)  # it has none
    routing._extract_endpoint_context = _find_source_once  # type: ignore[assignment]


def _note_route(route: routing.APIRoute, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
    """Set what `APIRoute.matches` reads, and keep the arguments for `_complete_route`."""
    route.path, route.endpoint = path, endpoint
    route.path_regex, route.path_format, route.param_convertors = _compile_path(path)
    route.methods = {method.upper() for method in options.get("methods") or ["GET"]}
    vars(route)["_options"] = options


def _complete_route(route: routing.APIRoute, name: str) -> Any:
    """Return an attribute that is still missing. Called by Python for these only."""
    options = vars(route).pop("_options", None)
    if options is None:
        raise AttributeError(name)
    _make_route(route, route.path, route.endpoint, **options)
    return getattr(route, name)


def _find_source_once(endpoint: Any) -> Any:
    code = getattr(endpoint, "__code__", endpoint)
    if code not in _sources:
        _sources[code] = _find_source(endpoint)
    return _sources[code]
