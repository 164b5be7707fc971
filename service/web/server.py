"""The HTTP server around the application: uvicorn, with our deadlines and nothing that we do not want."""

import resource
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from service.web.cors import Cors
from service.web.wire import DeadlineProtocol

GRACE = 10
"""Seconds that running requests get to finish after SIGTERM."""


def serve(make_app: Callable[[], ASGIApp], *, host: str, port: int, workers: int, cors: Cors | None = None) -> bool:
    """Serve until SIGTERM or SIGINT; false if it could not start. `make_app` is called in every worker.

    `cors` is for the answers that are given before the application is called.
    """
    _allow_many_connections()
    protocol: Any = partial(DeadlineProtocol, cors=cors)  # a worker gets it by pickle, which takes no local class
    config = uvicorn.Config(
        make_app,
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,  # the process has configured logging already
        access_log=False,  # one event per decision is the log; see log.py
        proxy_headers=False,  # law 14: our own, and only for proxies that the operator names
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    try:
        if workers == 1:
            server = uvicorn.Server(config)
            server.run()
            return server.started
        Multiprocess(config, sockets=[config.bind_socket()]).run()
    except SystemExit as end:  # uvicorn's word for a port that is taken; and ours for SIGTERM
        return end.code == 0
    return True


def _allow_many_connections() -> None:
    """Take as many file descriptors as the system allows at all.

    The usual 1,024 are used up by a hundred silent connections a second, each of which lives for ten.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems call a limit unlimited and take no such number
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
