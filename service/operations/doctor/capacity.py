"""Checks of the resources that the machine, or the container, has for the service."""

from service.machine import HASH_MEMORY_BYTES, MIB, WORKER_MEMORY_BYTES, count_cores
from service.operations.doctor.finding import Deployment, Finding


async def check_hashing(deployment: Deployment) -> list[Finding]:
    """Check that the hashing threads fit the memory limit, and report the cores."""
    threads, workers = deployment.settings.hashing_threads, deployment.settings.workers
    memory = deployment.memory_limit()
    room = "no memory limit" if memory is None else f"a memory limit of {memory // MIB} MiB"
    what = f"Workers: {workers}, hashing threads per worker: {threads}, cores: {count_cores()}, with {room}."
    needed = workers * (WORKER_MEMORY_BYTES + threads * HASH_MEMORY_BYTES)
    if memory is not None and needed > memory:
        advice = f"They need {needed // MIB} MiB at their peak: raise the limit"
        if workers > 1:
            advice += ", or run fewer workers"
        if threads > 1:
            advice += ", or lower KEYTURN_HASH_CONCURRENCY"
        advice += "."
        return [Finding("warning", what, advice)]
    return [Finding("ok", what)]
