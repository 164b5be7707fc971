"""Checks of Redis, or of its absence."""

import re

from service.clock import unix_seconds
from service.operations.doctor.finding import Deployment, Finding, compare_clocks
from service.storage.ephemeral import EphemeralUnavailable, probe
from service.storage.ephemeral_redis import OLDEST_TESTED, Info, State


async def check_redis(deployment: Deployment) -> list[Finding]:
    """Check that Redis does what the service needs, persists its data, evicts nothing, and has the right time.

    The probe is that of /readyz: it writes keys of its own, which expire within seconds.
    """
    settings = deployment.settings
    url = settings.resolved_redis_url
    if url is None:
        if settings.database_url is None:
            return []
        what = "PostgreSQL without Redis: every process counts failed passwords separately."
        return [Finding("warning", what, "Run one process only, or set KEYTURN_REDIS_URL.")]
    redis = deployment.connect_redis(url)
    try:
        await probe(redis)
        state = await redis.inspect()
    except EphemeralUnavailable as error:
        advice = "Until then each worker counts separately, with smaller limits of sign-up and login."
        return [Finding("wrong", error.reason, advice)]
    finally:
        await redis.close()
    return _judge(state, unix_seconds(deployment.clock()))


def _judge(state: State, now: int) -> list[Finding]:
    """Judge what Redis reports about itself. The user may lack that permission; the service does not need it."""
    found = []
    if state.info is not None:
        found.append(_version(state.info))
    if state.now is not None:
        found.append(compare_clocks("Redis'", now - state.now))
    if state.now is None or state.info is None:
        what = "Redis works. Not all of its version, clock, eviction and persistence could be checked."
        advice = (
            "The Redis user may not run INFO or TIME. The service needs neither; allow +info +time for this check."
        )
        found.append(Finding("ok", what, advice))
    if state.info is None:
        return found
    if state.info.policy not in {"noeviction", ""}:
        what = f"Redis may evict counters (maxmemory-policy {state.info.policy})."
        advice = "Set it to noeviction: otherwise an attacker can evict the counters that limit them."
        found.append(Finding("warning", what, advice))
    if not state.info.has_append_only_file:
        advice = "Set appendonly yes: a restart loses the counts of failed passwords. (No code is accepted twice.)"
        found.append(Finding("warning", "Redis loses its data at a restart.", advice))
    return found


def _version(info: Info) -> Finding:
    oldest = ".".join(map(str, OLDEST_TESTED))
    numbers = tuple(int(number) for number in re.findall(r"\d+", info.compatible_with)[:2])
    if numbers < OLDEST_TESTED:
        what = f"{info.product} {info.version} is older than Redis {oldest}, the oldest that is tested."
        return Finding("warning", what, f"Use Redis {oldest} or newer, or Valkey.")
    return Finding("ok", f"{info.product} {info.version} works; the oldest Redis that is tested is {oldest}.")
