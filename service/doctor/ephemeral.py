"""Checks of Redis, or of its absence."""

from service.clock import epoch
from service.doctor.finding import Deployment, Finding, compare_clocks
from service.ephemeral import EphemeralUnavailable


async def check_redis(deployment: Deployment) -> list[Finding]:
    """Whether Redis answers, keeps what it has, evicts nothing, and has the right time."""
    settings = deployment.settings
    url = settings.ephemeral_url
    if url is None:
        if settings.database_url is None:
            return []
        what = "PostgreSQL without Redis: every process counts failed passwords by itself."
        return [Finding("warning", what, "Run one process only, or set KEYTURN_REDIS_URL.")]
    redis = deployment.connect_redis(url)
    try:
        state = await redis.inspect()
    except EphemeralUnavailable:
        return [Finding("wrong", "Redis does not answer.", "Is KEYTURN_REDIS_URL right? Limits are small now.")]
    finally:
        await redis.close()
    found = [compare_clocks("Redis'", epoch(deployment.clock()) - state.now)]
    if state.policy not in {"noeviction", ""}:
        what = f"Redis may evict counters (maxmemory-policy {state.policy})."
        found.append(Finding("warning", what, "Set it to noeviction: an attacker's keys push out their failures."))
    if not state.is_kept:
        advice = "Set appendonly yes: a restart forgets failed passwords. (No code is accepted twice by that.)"
        found.append(Finding("warning", "Redis keeps nothing over a restart.", advice))
    return found
