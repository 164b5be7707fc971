"""The certificate authorities that a test process trusts, read once: to read them takes 40 ms."""

import functools
import os
import ssl

import httpcore2

_make_context = httpcore2.default_ssl_context
_make_context_once = functools.cache(_make_context)


def _named() -> tuple[str | None, str | None]:
    return os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")


_NAMED_AT_START = _named()


def read_authorities_once() -> None:
    """Let the clients of httpx2 share a TLS context, except where a test names other authorities."""
    httpcore2.default_ssl_context = _share_context


def _share_context(*, _trust_env: bool = True) -> ssl.SSLContext:
    make = _make_context_once if _named() == _NAMED_AT_START else _make_context
    return make(_trust_env=_trust_env)
