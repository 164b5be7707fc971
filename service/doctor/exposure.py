"""Checks of what the service offers to the outside: proxies, the issuer, the key set, sign-up, and recovery."""

import asyncio
import ipaddress
import json
from urllib.parse import urlsplit

from service.doctor.finding import ANSWER_TIMEOUT_SECONDS, Deployment, Finding
from service.outgoing import FAILURES, failure_of
from service.sealing import UnsealError
from service.settings import Settings
from service.values import is_loopback

MAX_PROXY_ADDRESSES = {4: 1 << 16, 6: 1 << 80}
"""Addresses in a trusted network beyond which it is surely too wide."""

MAX_KEY_SET_BYTES = 1 << 20
"""Bytes; a key has some 400."""


class _NoKeySet(Exception):
    """Why a URL answers no key set, for people; `advice` if the connection is what failed."""

    def __init__(self, why: str, advice: str = "") -> None:
        super().__init__(why)
        self.advice = advice


async def check_proxies(deployment: Deployment) -> list[Finding]:
    """Whether KEYTURN_TRUSTED_PROXIES names proxies, and not half of the internet."""
    networks = [ipaddress.ip_network(proxy, strict=False) for proxy in deployment.settings.trusted_proxies]
    return [
        Finding(
            "wrong",
            f"KEYTURN_TRUSTED_PROXIES believes everybody in {network}.",
            "Name the proxies themselves: whoever is believed can take any address, and with it any limit.",
        )
        for network in networks
        if network.num_addresses > MAX_PROXY_ADDRESSES[network.version]
    ]


async def check_issuer(deployment: Deployment) -> list[Finding]:
    """Whether the issuer's URL can be read, and has TLS."""
    try:
        issuer = urlsplit(deployment.settings.issuer)
        hostname = issuer.hostname
    except ValueError:
        what = f"KEYTURN_ISSUER is {deployment.settings.issuer}, which cannot be read as a URL."
        return [Finding("wrong", what, "Name the https URL under which verifiers find this service.")]
    if issuer.scheme == "https":
        return []
    is_local = hostname is not None and is_loopback(hostname)
    what = f"KEYTURN_ISSUER is {deployment.settings.issuer}, without TLS."
    advice = "Put TLS in front, and name the https URL under which verifiers find this service."
    listens_here = deployment.settings.listens_on_loopback
    return [Finding("warning" if is_local and listens_here else "wrong", what, advice)]


async def check_totp_issuer(deployment: Deployment) -> list[Finding]:
    """Whether authenticator apps show users a name that they know."""
    settings = deployment.settings
    default = Settings.model_fields["totp_issuer"].default
    is_production = settings.database_url is not None or settings.issuer.startswith("https:")
    if settings.totp_issuer != default or not is_production:
        return []
    what = f"KEYTURN_TOTP_ISSUER is the default: authenticator apps show {default} as the name of this service."
    return [Finding("warning", what, "Set it to the name that users know. Entries that exist keep the old name.")]


async def check_signup(deployment: Deployment) -> list[Finding]:
    """Whether everybody can create an account."""
    settings = deployment.settings
    if settings.signup != "open":
        return [Finding("ok", f"Sign-up is {settings.signup} (KEYTURN_SIGNUP).")]
    if settings.listens_on_loopback:
        return [Finding("ok", "Sign-up is open, to programs on this machine (KEYTURN_HOST).")]
    what = "Sign-up is open: everybody who reaches this service can create an account."
    advice = "If that is not meant, set KEYTURN_SIGNUP=closed and add accounts with: keyturn users add"
    return [Finding("warning", what, advice)]


async def check_recovery(deployment: Deployment) -> list[Finding]:
    """Whether an account's owner can learn of a recovery before it leads to a new second factor."""
    settings = deployment.settings
    delay = settings.recovery
    if delay is None:
        what = "POST /recovery is off: only an operator helps a user who lost every second factor."
        advice = "With: keyturn users reset-mfa. KEYTURN_WEBHOOK_URL or KEYTURN_RECOVERY_DELAY switches it on."
        return [Finding("ok", what, advice)]
    seconds = int(delay.total_seconds())
    wait = f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds} s"
    if settings.webhook_url is None:
        what = f"POST /recovery leads to a new second factor after {wait}, and no message tells the account's owner."
        advice = "Set KEYTURN_WEBHOOK_URL and tell them from there, or unset KEYTURN_RECOVERY_DELAY."
        return [Finding("warning", what, advice)]
    what = f"POST /recovery leads to a new second factor after {wait}; recovery.started is posted at once."
    return [Finding("ok", what, "Does its receiver tell the owner? Nobody else does.")]


async def check_published_keys(deployment: Deployment) -> list[Finding]:
    """Whether verifiers find this service's keys where the issuer says."""
    url = f"{deployment.settings.issuer}/.well-known/jwks.json"
    try:
        published = _kids(await _fetch(deployment, url))
    except _NoKeySet as why:
        advice = "Does the service run, and do verifiers reach it there? KEYTURN_ISSUER is where they look."
        return [Finding("wrong", f"There is no key set at {url}: {why}.", f"{why.advice} {advice}".lstrip())]
    if deployment.keys is None:
        return []  # the master secrets cannot be read, which another check reports
    try:
        ours = {key.kid for key in await deployment.keys.list_published(deployment.clock())}
    except UnsealError:
        return []  # the master secret is another one, which another check reports
    if not ours <= published:
        return [Finding("wrong", f"The key set at {url} is another service's.", "Is KEYTURN_ISSUER right?")]
    return [Finding("ok", f"Verifiers find the keys at {url}.")]


async def _fetch(deployment: Deployment, url: str) -> bytes:
    """The body that a GET of the URL answers with 200, in time and not endless. Raises `_NoKeySet`."""
    import httpx2

    body = bytearray()
    try:
        async with (
            asyncio.timeout(ANSWER_TIMEOUT_SECONDS),
            httpx2.AsyncClient(transport=deployment.transport, timeout=ANSWER_TIMEOUT_SECONDS) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.is_redirect:
                raise _NoKeySet(f"a redirect ({response.status_code}) answers, which many verifiers do not follow")
            if response.status_code != httpx2.codes.OK:
                raise _NoKeySet(f"the answer is {response.status_code}")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_KEY_SET_BYTES:
                    raise _NoKeySet("the answer is longer than 1 MiB")
    except TimeoutError:
        raise _NoKeySet(f"the answer takes longer than {ANSWER_TIMEOUT_SECONDS:.0f} s") from None
    except (httpx2.InvalidURL, UnicodeError):
        raise _NoKeySet("that is no URL") from None
    except (httpx2.HTTPError, OSError, ValueError) as error:
        reason = failure_of(error)
        raise _NoKeySet(f"the request fails ({type(error).__name__})", FAILURES.get(reason, "")) from None
    return bytes(body)


def _kids(body: bytes) -> set[str]:
    """The names of the keys in a JWK set. Raises `_NoKeySet`."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise _NoKeySet("the answer is not JSON") from None
    try:
        return {str(key["kid"]) for key in said["keys"]}
    except (KeyError, TypeError):
        raise _NoKeySet("the answer is JSON, and no JWK set") from None
