"""Checks of how clients and verifiers reach the service: proxies, the issuer, the published key set."""

import asyncio
import ipaddress
from urllib.parse import urlsplit

from service.doctor.finding import Deployment, Finding
from service.sealing import SealBroken

WIDEST_PROXIES = {4: 1 << 16, 6: 1 << 80}
"""Addresses in a trusted network beyond which it is surely too wide."""

ANSWER_WITHIN = 5.0
"""Seconds that a URL has."""


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
        if network.num_addresses > WIDEST_PROXIES[network.version]
    ]


async def check_issuer(deployment: Deployment) -> list[Finding]:
    """Whether the issuer's URL has TLS."""
    issuer = urlsplit(deployment.settings.issuer)
    if issuer.scheme == "https":
        return []
    is_local = issuer.hostname in {"localhost", "127.0.0.1", "::1"}
    what = f"KEYTURN_ISSUER is {deployment.settings.issuer}, without TLS."
    advice = "Put TLS in front, and name the https URL under which verifiers find this service."
    listens_here = deployment.settings.host in {"127.0.0.1", "::1", "localhost"}
    return [Finding("warning" if is_local and listens_here else "wrong", what, advice)]


async def check_published_keys(deployment: Deployment) -> list[Finding]:
    """Whether verifiers find this service's keys where the issuer says."""
    import httpx2

    url = f"{deployment.settings.issuer}/.well-known/jwks.json"
    try:
        async with asyncio.timeout(ANSWER_WITHIN), httpx2.AsyncClient(timeout=ANSWER_WITHIN) as client:
            published = {key["kid"] for key in (await client.get(url)).raise_for_status().json()["keys"]}
    except (httpx2.HTTPError, OSError, TimeoutError, ValueError, KeyError, TypeError):
        advice = "Does the service run, and do verifiers reach it there? KEYTURN_ISSUER is where they look."
        return [Finding("wrong", f"There is no key set at {url}.", advice)]
    try:
        ours = {key.kid for key in await deployment.keys.list_published(deployment.clock())}
    except SealBroken:
        return []  # the master secret is another one, which another check reports
    if not ours <= published:
        return [Finding("wrong", f"The key set at {url} is another service's.", "Is KEYTURN_ISSUER right?")]
    return [Finding("ok", f"Verifiers find the keys at {url}.")]
