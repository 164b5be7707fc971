"""The client of Redis for an address: one server, a socket, the master behind Sentinels, or a Cluster.

Only this module and `redis_faults` know redis-py. It is imported where a Redis is configured, because an embedded
service does not need it.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import RedisSSLContext
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import ConfigurationError
from service.redis_url import Credentials, RedisAddress, TlsOptions

REDIS_TIMEOUT = 0.2
"""Seconds for one Redis command or connection; two in a row still answer within half a second."""

CONNECTIONS = 16
"""Connections of a worker, and commands that it has under way at one time."""


class SentinelUnavailable(RedisConnectionError):
    """No Sentinel answered as it should; the cause is what the last one did."""


class MasterUnknown(MasterNotFoundError):
    """The Sentinels know no master with this name."""


class MasterDown(MasterNotFoundError):
    """The Sentinels know the master, and consider it down."""


def make_client(address: RedisAddress) -> tuple[Redis | RedisCluster, Sequence[Redis]]:
    """A client that connects when it is used, and the clients of its Sentinels, which it does not close itself.

    Raises `ConfigurationError` if a certificate or key cannot be used.
    """
    tls: dict[str, Any] = {}
    if address.tls is not None:
        _check_tls(address.tls)
        tls = {
            "ssl_ca_certs": address.tls.ca_certs,
            "ssl_certfile": address.tls.certfile,
            "ssl_keyfile": address.tls.keyfile,
            "ssl_cert_reqs": address.tls.cert_reqs,
            "ssl_check_hostname": address.tls.is_hostname_checked,
        }
    shared: dict[str, Any] = {
        "socket_timeout": REDIS_TIMEOUT,
        "socket_connect_timeout": REDIS_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "protocol": address.protocol,
        "driver_info": None,  # or every connection sends CLIENT SETINFO, which is nothing that the service needs
        **tls,
    }
    server = {**shared, **_credentials(address.credentials)}
    if address.kind == "cluster":
        nodes = [ClusterNode(*host) for host in address.hosts]
        return RedisCluster(startup_nodes=nodes, ssl=bool(tls), **server), ()
    if address.kind == "sentinel":
        own = {**shared, **_credentials(address.sentinel_credentials)}
        sentinel = _Sentinel(address.hosts, {**own, "ssl": bool(tls)}, {**server, "ssl": bool(tls)})
        return sentinel.master_for(address.master, db=address.database), sentinel.sentinels
    if address.kind == "socket":
        place: dict[str, Any] = {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        host, port = address.hosts[0]
        place = {"host": host, "port": port} | ({"connection_class": SSLConnection} if tls else {})
    pool = BlockingConnectionPool(
        max_connections=CONNECTIONS, timeout=REDIS_TIMEOUT, db=address.database, **place, **server
    )
    return Redis.from_pool(pool), ()  # from_pool: closing the client closes the pool


class _Sentinel(Sentinel):
    """Sentinels that say why there is no master; redis-py's own only puts it into the text of one error."""

    def __init__(self, hosts: Sequence[tuple[str, int]], own: dict[str, Any], master: dict[str, Any]) -> None:
        super().__init__(hosts, sentinel_kwargs=own, **master)  # type: ignore[no-untyped-call]

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port of the master, asked of one Sentinel after the other."""
        failure: Exception | None = None
        has_answer, is_known = False, False
        for place, sentinel in enumerate(self.sentinels):
            try:
                masters: Any = await sentinel.sentinel_masters()
            except (RedisConnectionError, RedisTimeoutError, ResponseError) as error:
                failure = error
                continue
            has_answer = True
            state: dict[str, Any] | None = masters.get(service_name)
            if state is None:
                continue
            is_known = True
            if self.check_master_state(state, service_name):
                self.sentinels[0], self.sentinels[place] = sentinel, self.sentinels[0]  # it answers: first next time
                return state["ip"], state["port"]
        if not has_answer:
            raise SentinelUnavailable from failure
        raise MasterDown if is_known else MasterUnknown


def _credentials(given: Credentials) -> dict[str, str | None]:
    return {"username": given.username, "password": given.password}


def _check_tls(options: TlsOptions) -> None:
    """Load what a connection will load, so that a wrong file is told at the start."""
    files = {
        "ssl_ca_certs": options.ca_certs,
        "ssl_certfile": options.certfile,
        "ssl_keyfile": options.keyfile,
    }
    for option, file in files.items():
        if file is None:
            continue
        try:
            with Path(file).open("rb") as opened:
                opened.read(1)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"KEYTURN_REDIS_URL has the option {option}, and its file {file} cannot be read: "
                f"{getattr(error, 'strerror', None) or 'this is no path'}. Name a readable PEM file."
            ) from None
    try:
        RedisSSLContext(ca_certs=options.ca_certs).get()
    except (OSError, ValueError):  # OpenSSL's own error is one
        raise ConfigurationError(
            f"KEYTURN_REDIS_URL has the option ssl_ca_certs, and its file {options.ca_certs} has no certificate in "
            "PEM format. Name the file of the authority that signed Redis' certificate."
        ) from None
    if options.certfile is None:
        return
    try:  # an empty password: OpenSSL would ask for the one of an encrypted key at the terminal
        ssl.create_default_context().load_cert_chain(options.certfile, options.keyfile, password="")
    except (OSError, ValueError):
        raise ConfigurationError(
            f"KEYTURN_REDIS_URL has the option ssl_certfile, and its file {options.certfile} cannot be used with the "
            f"key in {options.keyfile or 'the same file'}. Both must be PEM, belong together, and have no passphrase."
        ) from None
