"""The client of Redis for an address: one server, a socket, the master behind Sentinels, or a Cluster.

Only this module, `redis_faults` and the constructor of `ephemeral_redis.Redis` import redis-py, and only if Redis is
configured, because a service without Redis does not need it.
"""

import ssl
from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import RedisSSLContext
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelManagedSSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.errors import ConfigurationError
from service.redis_url import Credentials, RedisAddress, TlsOptions

MAX_CONNECTIONS = 16
"""The maximum number of simultaneous calls of a worker.

So a worker has at most this many connections to one server or, with a Cluster, to each node.
"""

_VERIFY_MODES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class SentinelUnavailable(RedisConnectionError):
    """No Sentinel gave a valid answer. `__cause__` is the error of the last one."""


class MasterUnknown(MasterNotFoundError):
    """The Sentinels know no master with this name."""


class MasterDown(MasterNotFoundError):
    """The Sentinels know the master, and consider it down."""


class _SharedContext:
    """A connection that uses a TLS context made beforehand.

    redis-py makes a context for each connection. To do so it reads all certificate authorities of the system, which
    blocks the event loop for up to a tenth of a second.
    """

    def __init__(self, *, tls_context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context: RedisSSLContext
        self.ssl_context.context = tls_context


class _TlsConnection(_SharedContext, SSLConnection):
    """A TLS connection to a server, a Sentinel, or a node of a Cluster."""


class _MasterTlsConnection(_SharedContext, SentinelManagedSSLConnection):
    """A TLS connection to the master that the Sentinels name."""


def make_client(address: RedisAddress, *, timeout: float) -> tuple[Redis | RedisCluster, Sequence[Redis]]:
    """Return a client of Redis and the clients of its Sentinels. The client of Redis connects when it is used.

    `timeout` is in seconds: for one command, or one attempt to connect. Closing the client of Redis does not close
    those of the Sentinels: the caller closes them, too.

    Raises `ConfigurationError` if a certificate or key cannot be used.
    """
    shared: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": address.protocol,
        "driver_info": None,  # otherwise each connection sends CLIENT SETINFO, which the service does not need
    }
    server = {**shared, **_credentials(address.credentials)}
    tls: dict[str, Any] = {}
    if address.tls is not None:
        tls = {"connection_class": _TlsConnection, "tls_context": _make_context(address.tls)}
    if address.kind == "cluster":
        return _make_cluster(address, server, tls), ()
    if address.kind == "sentinel":
        own = {**shared, **tls, **_credentials(address.sentinel_credentials)}
        clients = [Redis.from_pool(ConnectionPool(host=host, port=port, **own)) for host, port in address.hosts]
        to_master = {**server, **tls} | ({"connection_class": _MasterTlsConnection} if tls else {})
        sentinel = _Sentinel(clients, to_master)
        return sentinel.master_for(address.master, db=address.database), clients
    if address.kind == "socket":
        target: dict[str, Any] = {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        target = {"host": address.hosts[0][0], "port": address.hosts[0][1], **tls}
    pool = BlockingConnectionPool(
        max_connections=MAX_CONNECTIONS, timeout=timeout, db=address.database, **target, **server
    )
    return Redis.from_pool(pool), ()  # from_pool: closing the client closes the pool


def _make_cluster(address: RedisAddress, server: dict[str, Any], tls: dict[str, Any]) -> RedisCluster:
    cluster = RedisCluster(startup_nodes=[ClusterNode(*host) for host in address.hosts], **server)
    if tls:  # the constructor takes no context; nodes found later are made with `connection_kwargs`
        cluster.nodes_manager.connection_kwargs.update(tls)
        for node in cluster.nodes_manager.startup_nodes.values():
            node.connection_class = tls["connection_class"]
            node.connection_kwargs["tls_context"] = tls["tls_context"]
    return cluster


class _Sentinel(Sentinel):
    """Sentinels that report why there is no master. redis-py has the reason only in the text of one error."""

    def __init__(self, clients: list[Redis], to_master: dict[str, Any]) -> None:
        super().__init__([], sentinel_kwargs={}, **to_master)  # type: ignore[no-untyped-call]
        self.sentinels = list(clients)

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the master, from the first Sentinel that considers it to be up.

        Raises `SentinelUnavailable`, `MasterUnknown` or `MasterDown`.
        """
        failure: Exception | None = None
        has_answer, is_known = False, False
        for position, sentinel in enumerate(self.sentinels):
            try:
                masters: Any = await sentinel.sentinel_masters()
            except RedisError as error:
                failure = error
                continue
            has_answer = True
            state: dict[str, Any] | None = masters.get(service_name)
            if state is None:
                continue
            is_known = True
            if self.check_master_state(state, service_name):
                self.sentinels[0], self.sentinels[position] = (
                    sentinel,
                    self.sentinels[0],
                )  # try this one first next time
                return state["ip"], state["port"]
        if not has_answer:
            raise SentinelUnavailable from failure
        raise MasterDown if is_known else MasterUnknown


def _credentials(given: Credentials) -> dict[str, str | None]:
    return {"username": given.username, "password": given.password}


def _make_context(options: TlsOptions) -> ssl.SSLContext:
    """Make the context that every connection uses. It is made at the start, so that a wrong file is reported then."""
    files = {
        "ssl_ca_certs": options.ca_certs,
        "ssl_certfile": options.certfile,
        "ssl_keyfile": options.keyfile,
    }
    for option, file in files.items():
        if file is not None:
            _check_readable(option, file)
    try:
        context = ssl.create_default_context(cafile=options.ca_certs)  # with a file, no other authority is trusted
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"KEYTURN_REDIS_URL has the option ssl_ca_certs, and its file {options.ca_certs} has no PEM certificate. "
            "Name the file of the authority that signed Redis' certificate."
        ) from None
    context.check_hostname = options.is_hostname_checked
    context.verify_mode = _VERIFY_MODES[options.cert_reqs]
    if options.certfile is not None:
        try:  # with the empty password, OpenSSL does not ask for the passphrase of an encrypted key at the terminal
            context.load_cert_chain(options.certfile, options.keyfile, password="")
        except (OSError, ValueError):
            raise ConfigurationError(
                f"KEYTURN_REDIS_URL has the option ssl_certfile, and its file {options.certfile} cannot be used with "
                f"the key in {options.keyfile or 'the same file'}. Both must be PEM, belong together, and have no "
                "passphrase."
            ) from None
    return context


def _check_readable(option: str, file: str) -> None:
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 -- a Path would drop a slash at the end
            opened.read(1)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"KEYTURN_REDIS_URL has the option {option}, and its file {file} cannot be read: "
            f"{getattr(error, 'strerror', None) or 'this is not a path'}. Name a readable PEM file."
        ) from None
