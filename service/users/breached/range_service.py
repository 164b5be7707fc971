"""A service that answers ranges of leaked passwords, such as the one of Have I Been Pwned.

It learns the first five of the forty hexadecimal digits of a password's SHA-1, which all passwords of one range have
in common (k-anonymity). It answers with the other digits of the SHA-1 of each leaked password in that range, and a
count. Keyturn compares them itself.
"""

import re
from typing import TYPE_CHECKING

from service import VERSION
from service.outgoing import failure_of, make_tls_context
from service.users.breached.source import Unanswered

if TYPE_CHECKING:
    from httpx2 import AsyncBaseTransport

PREFIX_DIGITS = 5
MAX_ANSWER_BYTES = 1 << 20
"""Bytes of an answer. A padded range of Have I Been Pwned has about 40 KB."""

_LINE = re.compile(rb"([0-9A-Fa-f]{35}):([0-9]{1,18})")
_HEADERS = {
    "add-padding": "true",  # the size of the answer does not tell an observer of the connection which range it is
    "accept-encoding": "identity",  # so that the limit of the size also limits the memory
    "user-agent": f"keyturn/{VERSION}",
}


class RangeService:
    """A `Source` that asks one URL.

    Proxies of the environment and redirects are ignored: the operator named this address. The client is made at the
    start, because importing it and reading the certificate authorities may take longer than a check may.
    """

    def __init__(self, url: str, *, timeout: float, transport: "AsyncBaseTransport | None" = None) -> None:
        import httpx2

        self._url = url.rstrip("/")
        self._client = httpx2.AsyncClient(
            verify=make_tls_context(),
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
            transport=transport,
        )

    async def has(self, digest: bytes) -> bool:
        digits = digest.hex().upper()
        prefix, suffix = digits[:PREFIX_DIGITS], digits[PREFIX_DIGITS:].encode()
        return _occurs(suffix, await self._fetch(prefix))

    async def close(self) -> None:
        await self._client.aclose()

    async def _fetch(self, prefix: str) -> bytes:
        import httpx2

        answer = bytearray()
        try:
            async with self._client.stream("GET", f"{self._url}/{prefix}", headers=_HEADERS) as response:
                if response.status_code != 200:
                    raise Unanswered("status")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise Unanswered("malformed")
                async for chunk in response.aiter_raw():
                    answer += chunk
                    if len(answer) > MAX_ANSWER_BYTES:
                        raise Unanswered("too_large")
        except (httpx2.HTTPError, OSError) as error:
            raise Unanswered(failure_of(error)) from None
        return bytes(answer)


def _occurs(suffix: bytes, answer: bytes) -> bool:
    """Return whether a line of the answer has these digits. A line with the count 0 is padding."""
    found = False
    for line in answer.removeprefix(b"\xef\xbb\xbf").splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is not None:
            found |= match[1].upper() == suffix and int(match[2]) > 0
        elif line.strip():
            raise Unanswered("malformed")  # a page of a proxy, for example
    return found
