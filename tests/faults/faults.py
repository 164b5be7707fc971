"""The faults: each breaks something for a number of seconds, and repairs it at the end."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import redis

from tests.faults.world import Kind, World
from tests.harness.servers import wait_until

Breaking = Callable[[World, float], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """`within`: the seconds in which every request is answered during the fault (law 7: no fail-open, no hang).

    `cuts`: answers may be cut off.
    """

    name: str
    breaking: Breaking
    seconds: float
    within: float
    cuts: bool = False
    kind: Kind = "ordinary"
    """The kind of world that the fault needs."""


async def nothing(_world: World, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def redis_stopped(world: World, seconds: float) -> None:
    """SIGSTOP: Redis accepts connections and does not answer."""
    world.redis.freeze()
    try:
        await asyncio.sleep(seconds)
    finally:
        world.redis.thaw()


async def redis_killed(world: World, seconds: float) -> None:
    """Kill and restart Redis; it restarts empty."""
    world.redis.kill()
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(world.redis.start)


async def redis_flushed(world: World, seconds: float) -> None:
    """FLUSHALL ten times a second: most claims and counters are lost before they are read."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.to_thread(world.redis.flush)
        await asyncio.sleep(0.1)


async def redis_full(world: World, seconds: float) -> None:
    """Redis is at its memory limit under `noeviction`: it serves reads and rejects writes."""
    with redis.Redis.from_url(world.redis.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        try:
            await asyncio.sleep(seconds)
        finally:
            client.config_set("maxmemory", 0)


async def redis_slow(world: World, seconds: float) -> None:
    """Every packet takes 150 ms, sometimes three times that: some answers are too late, some are not."""
    end = time.monotonic() + seconds
    world.link.delay = 0.075
    try:
        while time.monotonic() < end:
            await asyncio.sleep(0.5)
            world.link.delay = random.choice((0.02, 0.075, 0.225))  # noqa: S311 -- no secret
    finally:
        world.link.delay = 0.0


async def redis_link_stalled(world: World, seconds: float) -> None:
    """The connections stay open, but nothing is transmitted."""
    world.link.stall()
    try:
        await asyncio.sleep(seconds)
    finally:
        world.link.flow()


async def postgresql_killed(world: World, seconds: float) -> None:
    """kill -9 of all its processes; it restarts and recovers."""
    await asyncio.to_thread(world.postgresql.kill)
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(world.postgresql.start)


async def postgresql_stopped(world: World, seconds: float) -> None:
    """SIGSTOP: connections stay open, statements hang."""
    world.postgresql.freeze()
    try:
        await asyncio.sleep(seconds)
    finally:
        world.postgresql.thaw()


async def postgresql_restarted(world: World, seconds: float) -> None:
    """Restart PostgreSQL regularly, repeatedly: connections are closed, new ones are refused for a moment."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.to_thread(world.postgresql.stop)
        await asyncio.to_thread(world.postgresql.start)
        await asyncio.sleep(0.5)


async def postgresql_out_of_connections(world: World, seconds: float) -> None:
    """Terminate the service's connections and set its role's connection limit to zero."""
    await asyncio.to_thread(world.postgresql.run, "ALTER ROLE service CONNECTION LIMIT 0")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'service'"
    try:
        await asyncio.to_thread(world.postgresql.run, cut)
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(world.postgresql.run, "ALTER ROLE service CONNECTION LIMIT -1")


async def postgresql_disk_full(world: World, seconds: float) -> None:
    """Fill the file system of the data and the WAL: PostgreSQL rejects writes, or crashes."""
    filler = world.postgresql.data.parent / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
    try:
        await asyncio.sleep(seconds)
    finally:
        filler.unlink()
        await asyncio.to_thread(wait_until, world.postgresql.serves)


async def redis_fails_over(world: World, seconds: float) -> None:
    """The master does not answer on any link, the Sentinel promotes its replica, and the old master returns."""
    world.redis.freeze()
    try:
        await asyncio.sleep(seconds)
    finally:
        world.redis.thaw()


async def service_killed(world: World, seconds: float) -> None:
    """kill -9 of the replicas in turn, at random moments; each is started again at once."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        await kill_one(world, number)
        number += 1


async def kill_one(world: World, number: int) -> None:
    replica = world.replicas[number % 2]
    await asyncio.sleep(random.uniform(0, 0.5))  # noqa: S311 -- no secret
    replica.kill()
    await asyncio.to_thread(replica.start)


async def rolling_restart(world: World, seconds: float) -> None:
    """SIGTERM to the replicas in turn, as in a deployment; each serves again before the next one stops."""
    end = time.monotonic() + seconds
    number = 0
    while number < 2 or time.monotonic() < end:
        replica = world.replicas[number % 2]
        await asyncio.to_thread(replica.stop)
        await asyncio.to_thread(replica.start)
        number += 1


async def clocks_apart(world: World, seconds: float) -> None:
    """One replica's clock is 90 s ahead of the other's."""
    world.replicas[1].set_clock(90)
    try:
        await asyncio.sleep(seconds)
    finally:
        world.replicas[1].set_clock(0)


async def clocks_set_back(world: World, seconds: float) -> None:
    """Both clocks go back by an hour; the authenticators' clocks do not."""
    for replica in world.replicas:
        replica.set_clock(-3600)
    try:
        await asyncio.sleep(seconds)
    finally:
        for replica in world.replicas:
            replica.set_clock(0)


WITHOUT_REDIS, WITHOUT_SQL, ALWAYS = 0.5, 1.0, 1.0
"""Seconds within which every request is answered (law 7)."""

FAULTS = (
    Fault("nothing", nothing, 5, ALWAYS),
    Fault("Redis stopped", redis_stopped, 30, WITHOUT_REDIS),
    Fault("Redis killed", redis_killed, 5, WITHOUT_REDIS),
    Fault("Redis flushed", redis_flushed, 5, WITHOUT_REDIS),
    Fault("Redis full", redis_full, 5, WITHOUT_REDIS),
    Fault("Redis slow", redis_slow, 10, 2 * WITHOUT_REDIS),
    Fault("Redis link stalled", redis_link_stalled, 5, WITHOUT_REDIS),
    Fault("PostgreSQL killed", postgresql_killed, 3, WITHOUT_SQL),
    Fault("PostgreSQL stopped", postgresql_stopped, 5, WITHOUT_SQL),
    Fault("PostgreSQL restarted", postgresql_restarted, 5, WITHOUT_SQL),
    Fault("PostgreSQL out of connections", postgresql_out_of_connections, 5, WITHOUT_SQL),
    Fault("PostgreSQL disk full", postgresql_disk_full, 5, WITHOUT_SQL, kind="small disk"),
    Fault("Redis fails over", redis_fails_over, 10, WITHOUT_REDIS, kind="sentinel"),
    Fault("service killed", service_killed, 10, ALWAYS, cuts=True),
    Fault("rolling restart", rolling_restart, 10, ALWAYS),
    Fault("clocks 90 s apart", clocks_apart, 5, ALWAYS),
    Fault("clocks set back an hour", clocks_set_back, 5, ALWAYS),
)

QUICK = ("Redis killed", "PostgreSQL killed", "service killed", "rolling restart")
"""The faults that the test suite runs, for two seconds each."""
