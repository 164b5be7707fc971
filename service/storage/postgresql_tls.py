"""TLS of a connection to PostgreSQL, in the terms of libpq: `sslmode` and the files of certificates.

The files are read for every connection, so that a renewed certificate is used without a restart.
"""

import os
import ssl
from dataclasses import dataclass, field

from service.errors import ConfigurationError

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


@dataclass(frozen=True, slots=True)
class Tls:
    """The options of the URL that begin with `ssl`."""

    mode: str = "prefer"
    root: str | None = None
    """The path of the authority's certificate, or `system`."""
    certificate: str | None = None
    key: str | None = None
    key_password: str = field(default="", repr=False)
    revoked: str | None = None
    revoked_folder: str | None = None
    oldest: str = "TLSv1.2"
    newest: str | None = None
    is_direct: bool = False

    def contexts(self) -> list[ssl.SSLContext | None]:
        """Return what to try, in this order; `None` is a connection without TLS. Raises `ConfigurationError`."""
        if self.mode == "disable":
            return [None]
        context = self.make_context()
        return {"allow": [None, context], "prefer": [context, None]}.get(self.mode, [context])

    def make_context(self) -> ssl.SSLContext:
        """Make a context from the files. Raises `ConfigurationError`, which names the option and the file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.mode == "verify-full"
        # As in libpq: with `require` the certificate is checked only if `sslrootcert` is given.
        is_checked = self.mode in {"verify-ca", "verify-full"} or (self.mode == "require" and self.root is not None)
        context.verify_mode = ssl.CERT_REQUIRED if is_checked else ssl.CERT_NONE
        context.set_alpn_protocols(["postgresql"])
        context.minimum_version = _version("ssl_min_protocol_version", self.oldest)
        if self.newest is not None:
            context.maximum_version = _version("ssl_max_protocol_version", self.newest)
        if self.root == "system":
            context.load_default_certs()
        elif self.root is not None:
            _load_authorities(context, "sslrootcert", self.root)
        self._load_revoked(context)
        self._load_own(context)
        return context

    def _load_revoked(self, context: ssl.SSLContext) -> None:
        if self.revoked is not None:
            _load_authorities(context, "sslcrl", self.revoked)
        if self.revoked_folder is not None:
            check_folder("sslcrldir", self.revoked_folder)
            context.load_verify_locations(capath=self.revoked_folder)
        if self.revoked is not None or self.revoked_folder is not None:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN

    def _load_own(self, context: ssl.SSLContext) -> None:
        if self.certificate is None:
            return
        for option, file in (("sslcert", self.certificate), ("sslkey", self.key)):
            if file is not None:
                check_file(option, file)
        try:
            # Without a password OpenSSL would ask for it at the terminal.
            context.load_cert_chain(self.certificate, self.key, password=lambda: self.key_password)
        except OSError as error:
            if not isinstance(error, ssl.SSLError):  # OpenSSL reads a path more strictly than `open`
                raise _unreadable("sslcert", self.certificate, error) from None
            raise ConfigurationError(
                _sentence(
                    f"sslcert {self.certificate} and its key {self.key or 'in the same file'} cannot be used "
                    f"({error.reason or 'no PEM, or a password is needed'}): give a certificate and its own key in "
                    "PEM, and sslpassword if the key is encrypted"
                )
            ) from None


def check_file(option: str, file: str) -> None:
    """Raise `ConfigurationError` unless `file` can be read."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 -- a Path would drop a slash at the end
            opened.read(1)
    except (OSError, ValueError) as error:
        raise _unreadable(option, file, error) from None


def check_folder(option: str, folder: str) -> None:
    """Raise `ConfigurationError` unless `folder` is a folder whose files can be listed."""
    try:
        with os.scandir(folder):
            pass
    except FileNotFoundError:
        raise ConfigurationError(_sentence(f"{option}: there is no folder {folder}")) from None
    except (OSError, ValueError) as error:
        raise _unreadable(option, folder, error) from None


def _unreadable(option: str, file: str, error: Exception) -> ConfigurationError:
    why = getattr(error, "strerror", None) or "this is not a path"
    return ConfigurationError(_sentence(f"{option}: {file} cannot be read: {why}"))


def _load_authorities(context: ssl.SSLContext, option: str, file: str) -> None:
    check_file(option, file)
    try:
        context.load_verify_locations(cafile=file)
    except OSError as error:
        if not isinstance(error, ssl.SSLError):
            raise _unreadable(option, file, error) from None
        raise ConfigurationError(_sentence(f"{option}: {file} has no certificate in PEM form")) from None


def _version(option: str, text: str) -> ssl.TLSVersion:
    if text not in _VERSIONS:
        raise ConfigurationError(_sentence(f"{option} must be one of {', '.join(_VERSIONS)}"))
    return _VERSIONS[text]


def _sentence(text: str) -> str:
    return f"KEYTURN_DATABASE_URL: {text}."
