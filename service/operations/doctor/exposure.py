"""Checks of what is reachable from outside: proxies, the issuer, the key set, sign-up, and recovery."""

import asyncio
import json
from urllib.parse import urlsplit

from service.operations.doctor.finding import Deployment, Finding
from service.outgoing import FAILURES, failure_of
from service.settings import Settings
from service.storage.sealing import UnsealError
from service.values import is_loopback, read_network

MAX_PROXY_ADDRESSES = {4: 1 << 16, 6: 1 << 80}
"""Number of addresses above which a trusted network is certainly too wide, by IP version."""

MAX_KEY_SET_BYTES = 1 << 20
"""Bytes. A key has about 400."""


class _NoKeySet(Exception):
    """Says why a URL has no key set, for operators; with `advice` if the connection failed."""

    def __init__(self, why: str, advice: str = "") -> None:
        super().__init__(why)
        self.advice = advice


async def check_proxies(deployment: Deployment) -> list[Finding]:
    """Check that no network in KEYTURN_TRUSTED_PROXIES is too wide."""
    networks = map(read_network, deployment.settings.trusted_proxies)
    return [
        Finding(
            "wrong",
            f"KEYTURN_TRUSTED_PROXIES trusts every address in {network}.",
            "Name the proxies themselves: a client at a trusted address can claim any address, and so evade limits.",
        )
        for network in networks
        if network.num_addresses > MAX_PROXY_ADDRESSES[network.version]
    ]


async def check_issuer(deployment: Deployment) -> list[Finding]:
    """Check that the issuer is a URL, with TLS."""
    try:
        issuer = urlsplit(deployment.settings.issuer)
        hostname = issuer.hostname
    except ValueError:
        what = f"KEYTURN_ISSUER is {deployment.settings.issuer}, which is not a valid URL."
        return [Finding("wrong", what, "Name the https URL under which verifiers find this service.")]
    if issuer.scheme == "https":
        return []
    is_local = hostname is not None and is_loopback(hostname)
    what = f"KEYTURN_ISSUER is {deployment.settings.issuer}, without TLS."
    advice = "Put TLS in front, and name the https URL under which verifiers find this service."
    listens_here = deployment.settings.listens_on_loopback
    return [Finding("warning" if is_local and listens_here else "wrong", what, advice)]


async def check_totp_issuer(deployment: Deployment) -> list[Finding]:
    """Check that the name of the service in authenticator apps is not the default."""
    settings = deployment.settings
    default = Settings.model_fields["totp_issuer"].default
    is_production = settings.database_url is not None or settings.issuer.startswith("https:")
    if settings.totp_issuer != default or not is_production:
        return []
    what = f"KEYTURN_TOTP_ISSUER is the default: authenticator apps show {default} as the name of this service."
    return [Finding("warning", what, "Set it to a name that users know. Existing entries in apps keep the old name.")]


async def check_signup(deployment: Deployment) -> list[Finding]:
    """Check whether everybody can create an account."""
    settings = deployment.settings
    if settings.signup != "open":
        return [Finding("ok", f"Sign-up is {settings.signup} (KEYTURN_SIGNUP).")]
    if settings.listens_on_loopback:
        return [Finding("ok", "Sign-up is open to programs on this machine (KEYTURN_HOST).")]
    what = "Sign-up is open: everybody who can reach this service can create an account."
    advice = "If you do not want that, set KEYTURN_SIGNUP=closed and add accounts with: keyturn users add"
    return [Finding("warning", what, advice)]


async def check_recovery(deployment: Deployment) -> list[Finding]:
    """Check that a user can learn of a recovery before it leads to a new second factor."""
    settings = deployment.settings
    delay = settings.recovery
    if delay is None:
        what = (
            "POST /recovery is off: only an operator can help a user who lost every authenticator and recovery code."
        )
        advice = (
            "Use: keyturn users reset-mfa. To turn POST /recovery on, set KEYTURN_RECOVERY_DELAY, or leave it unset "
            "and set KEYTURN_WEBHOOK_URL."
        )
        return [Finding("ok", what, advice)]
    seconds = int(delay.total_seconds())
    wait = f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds} s"
    reached = "" if settings.message_transport is None else " without a confirmed e-mail address"
    if settings.webhook_url is None:
        what = f"POST /recovery leads to a new second factor after {wait}, and a user{reached} gets no message."
        advice = "Set KEYTURN_WEBHOOK_URL and let its receiver inform the user, or unset KEYTURN_RECOVERY_DELAY."
        return [Finding("warning", what, advice)]
    what = f"POST /recovery leads to a new second factor after {wait}; recovery.started is sent at once."
    advice = "Make sure that the receiver of KEYTURN_WEBHOOK_URL informs the user: Keyturn sends no message"
    advice += f" to one{reached}." if reached else "."
    return [Finding("ok", what, advice)]


async def check_published_keys(deployment: Deployment) -> list[Finding]:
    """Check that the key set at the issuer's URL has this service's keys."""
    url = f"{deployment.settings.issuer}/.well-known/jwks.json"
    try:
        published = _kids(await _fetch(deployment, url))
    except _NoKeySet as why:
        advice = "Check that the service runs and that verifiers can reach it at KEYTURN_ISSUER."
        return [Finding("wrong", f"There is no key set at {url}: {why}.", f"{why.advice} {advice}".lstrip())]
    if deployment.keys is None:
        return []  # the master secrets cannot be read, which another check reports
    try:
        ours = {key.kid for key in await deployment.keys.list_published(deployment.clock())}
    except UnsealError:
        return []  # no master secret opens the keys, which another check reports
    if ours and not ours & published:
        return [Finding("wrong", f"The key set at {url} belongs to another service.", "Correct KEYTURN_ISSUER.")]
    if not ours <= published:
        what = f"The key set at {url} lacks {len(ours - published)} of this service's keys."
        advice = "Run this again in five minutes: until then a cache may answer with an older key set."
        return [Finding("warning", what, advice)]
    return [Finding("ok", f"Verifiers find the keys at {url}.")]


async def _fetch(deployment: Deployment, url: str) -> bytes:
    """Return the body of a 200 to a GET of the URL. Raises `_NoKeySet`, also if it is too late or too long."""
    import httpx2

    body = bytearray()
    try:
        async with (
            asyncio.timeout(deployment.answer_timeout),
            httpx2.AsyncClient(transport=deployment.transport, timeout=deployment.answer_timeout) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.is_redirect:
                raise _NoKeySet(
                    f"the answer is the redirect {response.status_code}, which many verifiers do not follow"
                )
            if response.status_code != httpx2.codes.OK:
                raise _NoKeySet(f"the answer is {response.status_code}")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_KEY_SET_BYTES:
                    raise _NoKeySet("the answer is longer than 1 MiB")
    except TimeoutError:
        raise _NoKeySet(f"the answer takes longer than {deployment.answer_timeout:.0f} s") from None
    except (httpx2.InvalidURL, UnicodeError):
        raise _NoKeySet("this is not a URL") from None
    except (httpx2.HTTPError, OSError, ValueError) as error:
        reason = failure_of(error)
        raise _NoKeySet(f"the request fails ({type(error).__name__})", FAILURES.get(reason, "")) from None
    return bytes(body)


def _kids(body: bytes) -> set[str]:
    """Return the ids of the keys in a JWK set. Raises `_NoKeySet`."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise _NoKeySet("the answer is not JSON") from None
    try:
        return {str(key["kid"]) for key in document["keys"]}
    except (KeyError, TypeError):
        raise _NoKeySet("the answer is JSON, but not a JWK set") from None
