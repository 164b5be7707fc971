"""Checks of the master secrets and of what they open."""

import zlib
from itertools import pairwise

from service.doctor.finding import Deployment, Finding
from service.sealing import SealBroken


async def check_signing_keys(deployment: Deployment) -> list[Finding]:
    """Whether a master secret opens the signing key, and is its owner's only."""
    settings = deployment.settings
    try:
        key = await deployment.keys.get_signing_key(deployment.clock())
    except SealBroken:
        return [
            Finding(
                "wrong",
                "No master secret opens the signing key.",
                "List the one that it was made with, too: in KEYTURN_MASTER_SECRETS, or in the data folder.",
            )
        ]
    found = [Finding("ok", f"The master secret opens the signing key {key.kid} ({key.algorithm}).")]
    file = settings.data_dir / "master-secret"
    if settings.database_url is None and file.exists() and file.stat().st_mode & 0o077:
        found.append(Finding("wrong", f"Others than its owner may read {file}.", f"Run: chmod 600 {file}"))
    return found


async def check_master_secrets(deployment: Deployment) -> list[Finding]:
    """Whether each master secret looks random."""
    secrets = deployment.settings.read_master_secrets()
    weak = [n for n, secret in enumerate(secrets, 1) if _is_patterned(secret)]
    return [
        Finding(
            "wrong",
            f"Master secret {n} has a pattern: it was not made by chance, and can be guessed.",
            "Make one with: openssl rand -hex 32. List it first, and run: keyturn keys reseal",
        )
        for n in weak
    ]


def _is_patterned(secret: bytes) -> bool:
    """Whether it, or its steps, can be written shorter, or somebody typed it: chance makes no such secret."""
    steps = bytes((after - before) % 256 for before, after in pairwise(secret))
    is_text = all(32 <= byte < 127 for byte in secret)
    return is_text or any(len(zlib.compress(text, 9)) < len(text) for text in (secret, steps))
