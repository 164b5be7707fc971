"""Two replicas, one PostgreSQL, and one Redis behind a link that can stall: processes that a fault can break."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx2
import redis

from service.storage.migrations import migrate
from tests.faults.load import Shared
from tests.faults.mailbox import Mailbox
from tests.faults.proxy import StallingProxy
from tests.harness.clients import SECRET
from tests.harness.ports import free_port
from tests.harness.servers import (
    ANSWERS_WITHIN,
    REPOSITORY,
    PostgreSQLServer,
    Process,
    RedisServer,
    clean_environment,
    find_program,
    wait_until,
)

UNLIMITED = {f"KEYTURN_LIMIT_{name}": "off" for name in ("SIGNUP", "LOGIN", "LOGIN_ADDRESS", "LOGIN_USERNAME")}
UNLIMITED["KEYTURN_RECOVERY_DELAY"] = "72h"
"""The whole load comes from one address. `guesses` runs with the default limits."""


Kind = Literal["ordinary", "sentinel", "small disk"]

SMALL_DISK = 192
"""MiB: enough for an empty PostgreSQL and its WAL, and little more."""


class Replica(Process):
    """A Keyturn process with a clock of its own."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._clock = folder / f"{name}.clock"
        self.set_clock(0)
        super().__init__(
            [sys.executable, "-m", "tests.faults.serve", str(self.port), str(self._clock)],
            environment={**clean_environment(), **settings},
            log=folder / f"{name}.log",
        )

    def set_clock(self, seconds: float) -> None:
        """Set the offset of its clock in seconds."""
        draft = self._clock.with_suffix(".new")
        draft.write_text(str(seconds), "ascii")
        draft.rename(self._clock)

    def start(self) -> None:
        super().start()
        wait_until(self.is_serving)

    def is_serving(self) -> None:
        """Raise unless the replica answers."""
        assert 200 == httpx2.get(f"{self.url}/livez", timeout=ANSWERS_WITHIN).status_code


class Sentinel(Process):
    """Watches a master, and promotes its replica within one or two seconds."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        self.port = free_port()
        file = folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor keyturn 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds keyturn 1000\nsentinel failover-timeout keyturn 3000\n",
            "ascii",
        )
        super().__init__([find_program("redis-server"), str(file), "--sentinel"])

    def knows_a_replica(self) -> None:
        """Raise until a failover is possible."""
        with redis.Redis(port=self.port) as client:
            assert client.sentinel_slaves("keyturn")


@dataclass
class World:
    folder: Path
    postgresql: PostgreSQLServer
    redis: RedisServer
    link: StallingProxy
    """The link between the replicas and Redis."""
    others: list[Process] = field(default_factory=list)
    """A Redis replica, and a Sentinel."""
    replicas: list[Replica] = field(default_factory=list)
    client_secret: str = ""
    admin_secret: str = ""

    @property
    def urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

    @property
    def shared(self) -> Shared:
        """What the users of this world share."""
        return Shared(self.client_secret, self.admin_secret, Mailbox(self.folder / "data" / "mail"))

    def read_log(self) -> str:
        return "".join((self.folder / f"{name}.log").read_text() for name in ("a", "b"))


@asynccontextmanager
async def opened_world(
    folder: Path, kind: Kind = "ordinary", *, settings: Mapping[str, str] = UNLIMITED
) -> AsyncIterator[World]:
    """Start the world and stop it at the end. Raise `PermissionError` where no small disk can be mounted."""
    places = {name: folder / name for name in ("redis", "postgresql")}
    for place in places.values():
        place.mkdir()
    with _mounted(places["postgresql"]) if kind == "small disk" else nullcontext():
        shared = RedisServer(places["redis"])
        database = await asyncio.to_thread(PostgreSQLServer, places["postgresql"])
        world = World(folder, database, shared, StallingProxy(shared.port))
        try:
            shared.start()
            database.start()
            await world.link.open()
            redis_url = f"redis://127.0.0.1:{world.link.port}/0"
            if kind == "sentinel":
                redis_url = await asyncio.to_thread(_watch, world, places["redis"])
            environment = {
                **settings,
                "KEYTURN_DATABASE_URL": await asyncio.to_thread(_make_database, database),
                "KEYTURN_REDIS_URL": redis_url,
                "KEYTURN_MASTER_SECRETS": SECRET,
                "KEYTURN_DATA_DIR": str(folder / "data"),
                "KEYTURN_ADMIN_API": "on",
                "KEYTURN_TRUSTED_PROXIES": "127.0.0.1",
            }
            world.client_secret = _register(environment, "faults")
            world.admin_secret = _register(environment, "admin", "--scope", "keyturn:users.write")
            world.replicas = [Replica(folder, name, environment) for name in ("a", "b")]
            for replica in world.replicas:
                await asyncio.to_thread(replica.start)
            yield world
        finally:
            for process in (*world.replicas, *world.others, shared, database):
                if process.child is not None:
                    await asyncio.to_thread(process.stop)
            await world.link.close()


def _make_database(server: PostgreSQLServer) -> str:
    """Make a migrated database, and return the URL of a role with restricted rights."""
    name = server.new_database()
    migrate(server.url(name))
    server.run("CREATE ROLE service LOGIN")
    server.run(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO service;"
        " GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO service",
        name,
    )
    return server.url(name).replace("keyturn@", "service@")


def _watch(world: World, folder: Path) -> str:
    """Give Redis a replica and a Sentinel; return the URL by which the service finds the current master."""
    (folder / "follower").mkdir()
    follower = RedisServer(folder / "follower", "--replicaof", "127.0.0.1", str(world.redis.port))
    sentinel = Sentinel(folder, world.redis)
    world.others += [follower, sentinel]
    follower.start()
    sentinel.start()
    wait_until(sentinel.knows_a_replica, seconds=30)
    return f"redis+sentinel://127.0.0.1:{sentinel.port}/keyturn"


@contextmanager
def _mounted(place: Path) -> Iterator[None]:
    """Mount a file system at `place` that is small enough to fill."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if made.returncode != 0:
        raise PermissionError("this process may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _register(environment: Mapping[str, str], *client: str) -> str:
    """Register a client, and return its secret."""
    command = [sys.executable, "-m", "service", "clients", "add", *client]
    done = subprocess.run(
        command,
        env={**clean_environment(), **environment},
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()
