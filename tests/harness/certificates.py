"""A private authority and the certificate of one of its servers."""

import datetime
import hashlib
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_authority(folder: Path, *, name: str = "a private authority") -> Path:
    """Write the certificate of a private authority (`ca.pem`) and of one of its servers (`server.pem`).

    `ca.pem` is there a second time with the name by which OpenSSL finds it if `SSL_CERT_DIR` names the folder.
    """
    now = datetime.datetime.now(datetime.UTC)

    def name_of(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    template = (
        x509.CertificateBuilder()
        .issuer_name(name_of(name))
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    ca = (
        template.subject_name(name_of(name))
        .public_key(ca_key.public_key())
        .serial_number(1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        template.subject_name(name_of("localhost"))
        .public_key(key.public_key())
        .serial_number(2)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    canonical = ca.subject.public_bytes()[2:]  # without the outer header; the name is in lower case already
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    for name_of_file in ("ca.pem", f"{int.from_bytes(digest[:4], 'little'):08x}.0"):
        (folder / name_of_file).write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM) + private)
    return folder
