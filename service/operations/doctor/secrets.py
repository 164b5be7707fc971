"""Checks of the master secrets and of the secrets that they seal."""

import zlib
from itertools import pairwise

from service.clock import LEEWAY_SECONDS, unix_seconds
from service.factors.counts import count_weak
from service.operations.doctor.finding import Deployment, Finding
from service.storage.sealing import UnsealError
from service.tokens.keys import signing_at


async def check_signing_keys(deployment: Deployment) -> list[Finding]:
    """Check that a master secret opens the signing key, and that this key may sign at the current time."""
    if deployment.keys is None:
        return []
    now = deployment.clock()
    try:
        published = await deployment.keys.list_published(now)
    except UnsealError:
        return [
            Finding(
                "wrong",
                "No master secret opens the signing key.",
                "Also list the master secret that sealed the key: in KEYTURN_MASTER_SECRETS, in the file that "
                "KEYTURN_MASTER_SECRETS_FILE names, or in the file master-secret of the data folder.",
            )
        ]
    if not published:
        return [Finding("warning", "There is no signing key yet.", "The service makes one when it starts.")]
    key = signing_at(published, unix_seconds(now))
    found = [Finding("ok", f"The master secret opens the signing key {key.kid} ({key.algorithm}).")]
    early = key.activates_at - unix_seconds(now)
    if early > LEEWAY_SECONDS:
        what = f"By this machine's clock, the signing key {key.kid} may not sign before {early} s have passed."
        found.append(Finding("wrong", what, "Use NTP on this machine and on the one that made the key."))
    return found


async def check_master_secrets(deployment: Deployment) -> list[Finding]:
    """Check that the master secrets exist and look random, and that no other user may read the default file."""
    own = deployment.settings.own_master_secret_file
    if own is not None and not own.exists():
        advice = (
            "The service makes a new one when it starts. If there was an old one, restore a copy of it: nothing else "
            "opens what it sealed."
        )
        return [Finding("wrong", f"There is no master secret at {own}.", advice)]
    secrets = deployment.settings.find_master_secrets()
    weak = [n for n, secret in enumerate(secrets, 1) if _is_patterned(secret)]
    found = [
        Finding(
            "wrong",
            f"Master secret {n} has a pattern: it is not random, and can be guessed.",
            "Make one with: openssl rand -hex 32. List it first, and run: keyturn keys reseal",
        )
        for n in weak
    ]
    if own is not None and own.stat().st_mode & 0o077:
        what = f"On this machine, users other than the owner of {own} may read it."
        found.append(Finding("wrong", what, f"Run: chmod 600 {own}"))
    return found


async def check_weak_authenticators(deployment: Deployment) -> list[Finding]:
    """Check that no authenticator was imported with a secret of less than 112 bits (NIST SP 800-63B-4)."""
    weak = await count_weak(deployment.database)
    if weak == 0:
        return []
    what = f"{weak} imported authenticator{' has' if weak == 1 else 's have'} a secret of less than 112 bits."
    advice = "Ask their users to add an authenticator (POST /enable-mfa with a name): it replaces the weak one."
    return [Finding("warning", what, advice)]


def _is_patterned(secret: bytes) -> bool:
    """Return whether the secret has a pattern. Random bytes are not printable text, and cannot be compressed.

    The secret also has a pattern if the differences between consecutive bytes can be compressed. For example, all
    differences of the bytes 1, 2, 3 and so on are equal.
    """
    steps = bytes((after - before) % 256 for before, after in pairwise(secret))
    is_text = all(32 <= byte < 127 for byte in secret)
    return is_text or any(len(zlib.compress(text, 9)) < len(text) for text in (secret, steps))
