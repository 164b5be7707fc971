"""Sealing. Law 10: secrets at rest are sealed and bound to their row.

Each master secret yields one derived key per purpose (HKDF-SHA256, RFC 5869). A value is sealed with AES-256-GCM, and
its associated data binds it to one purpose, table and row: a sealed value that was moved elsewhere does not open. The
first master secret seals, and all of them open values, which permits their rotation. Keys of tokens are derived in
the same way: that of the first master secret signs, and all of them verify.

A sealed value is: version (1 byte), id of the master secret (4), nonce (12), ciphertext and tag.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.errors import ConfigurationError
from service.secret_texts import MIN_SECRET_BYTES

_VERSION = b"\x01"
_ID_BYTES, _NONCE_BYTES = 4, 12


class UnsealError(Exception):
    """No master secret opens this value: it was moved, damaged, or sealed with a secret that is not listed."""


class Sealer:
    """Seals and opens values, and derives the symmetric keys of tokens."""

    def __init__(self, master_secrets: Sequence[bytes]) -> None:
        if not master_secrets:
            raise ConfigurationError("There is no master secret.")
        if any(len(secret) < MIN_SECRET_BYTES for secret in master_secrets):
            raise ConfigurationError(f"A master secret needs {MIN_SECRET_BYTES} bytes or more.")
        self._masters = tuple(master_secrets)
        self._ids = tuple(_derive(secret, "id", _ID_BYTES) for secret in self._masters)
        self._ciphers: dict[str, tuple[AESGCM, ...]] = {}

    def derive(self, purpose: str) -> tuple[bytes, ...]:
        """Return 32-byte keys for `purpose`, one per master secret. The first creates values; all of them verify."""
        return tuple(_derive(secret, f"derive:{purpose}", 32) for secret in self._masters)

    def seal(self, plaintext: bytes, *, purpose: str, table: str, row: str) -> bytes:
        """Seal `plaintext` for one row of one table."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._for(purpose)[0].encrypt(nonce, plaintext, _bound_to(purpose, table, row))
        return _VERSION + self._ids[0] + nonce + sealed

    def open(self, sealed: bytes, *, purpose: str, table: str, row: str) -> bytes:
        """Open a value sealed for the same purpose, table and row, or raise `UnsealError`."""
        version, key_id, nonce, body = sealed[:1], sealed[1:5], sealed[5:17], sealed[17:]
        if version == _VERSION and len(nonce) == _NONCE_BYTES:
            for master_id, cipher in zip(self._ids, self._for(purpose), strict=True):
                if master_id != key_id:
                    continue
                try:
                    return cipher.decrypt(nonce, body, _bound_to(purpose, table, row))
                except InvalidTag:
                    break
        raise UnsealError(f"a sealed value of {table} does not open")

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first master secret sealed this value."""
        return sealed[1:5] == self._ids[0]

    def _for(self, purpose: str) -> tuple[AESGCM, ...]:
        if purpose not in self._ciphers:
            keys = (_derive(secret, f"seal:{purpose}", 32) for secret in self._masters)
            self._ciphers[purpose] = tuple(AESGCM(key) for key in keys)
        return self._ciphers[purpose]


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column with sealed values, and their purpose. Each module that stores secrets defines one.

    `row` names the column that a value is bound to. `sealed_as` is the former name of a table that was renamed: its
    sealed values stay bound to that name.
    """

    purpose: str
    table: str
    row: str
    column: str
    sealed_as: str | None = None

    def seal(self, sealer: Sealer, plaintext: bytes, *, row: str) -> bytes:
        return sealer.seal(plaintext, purpose=self.purpose, table=self.sealed_as or self.table, row=row)

    def open(self, sealer: Sealer, sealed: bytes, *, row: str) -> bytes:
        """Open a value of this column, or raise `UnsealError`."""
        return sealer.open(sealed, purpose=self.purpose, table=self.sealed_as or self.table, row=row)


def _derive(secret: bytes, info: str, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=b"keyturn:" + info.encode()).derive(secret)


def _bound_to(purpose: str, table: str, row: str) -> bytes:
    return "\x1f".join((purpose, table, row)).encode()
