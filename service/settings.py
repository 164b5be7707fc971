"""Every setting, with its unit and its reason. Combinations that are not safe are refused at the start.

Settings are environment variables that begin with `KEYTURN_`; an unknown name is refused. The docstring
of a field is the one description of the setting: `make reference` writes it into `docs/reference/settings.md`.
"""

import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from service.durations import InDays, InSeconds
from service.errors import ConfigurationError
from service.machine import count_cores, hashing_threads, memory_limit
from service.message_settings import MessageSettings, MessageTransport
from service.redis_url import read_redis_url
from service.secret_files import read_lines, write_once
from service.secret_texts import read_master_secret
from service.values import (
    Audience,
    ClaimNames,
    Delay,
    Duration,
    Folder,
    ForwardedHeader,
    HeaderNames,
    Host,
    LeakedPasswords,
    Limit,
    MfaRequirement,
    Networks,
    Origins,
    Rate,
    ServiceName,
    check_http_url,
    is_loopback,
    origin_of,
)

PREFIX = "KEYTURN_"

MIN_PROOF_LENGTH = 32
DEFAULT_RECOVERY_DELAY = timedelta(hours=72)
"""The default with a webhook. Within three days a user who is away for a weekend notices a recovery that they did not
request."""


MIN_LEAD, MAX_LEAD = timedelta(minutes=5, seconds=30), timedelta(days=30)
"""How long a key may be published before it signs: at least as long as replicas (30 s) and verifiers that obey
`Cache-Control` (5 min) cache the key set, and at most 30 days.
"""


class Settings(MessageSettings):
    """The settings. `read_settings` reads them from the environment; tests and tools pass values."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    host: Host = "127.0.0.1"
    """The address to listen on. `0.0.0.0` is all of IPv4, `::` all of IPv6 and IPv4, `localhost` 127.0.0.1 and
    ::1."""
    port: int = Field(8000, ge=0, le=65535)
    """The TCP port to listen on. 0 takes a free one."""
    workers: int = Field(1, ge=1, le=256)
    """The number of server processes. More than one needs PostgreSQL, because SQLite has one writer, and Redis,
    because an in-process store would count attempts in each process separately."""

    keep_alive: Annotated[int, InSeconds(5, 3600, like="75s")] = 10
    """How long a connection may be idle after an answer. Set a longer time than that for which the load balancer
    keeps idle connections; otherwise it sends a request into a connection that is closing."""
    drain_delay: Annotated[int, InSeconds(0, 600, like="5s")] = 0
    """How long Keyturn still accepts connections after SIGTERM, while `/readyz` answers 503. Set the time that the
    load balancer needs to notice the 503."""

    data_dir: Folder = Path("data")
    """The folder of the SQLite file, unless `KEYTURN_DATABASE_URL` is set; of the master secret, unless a setting
    gives one; and of messages to users that are written as files. It is created with mode 0700."""
    database_url: SecretStr | None = None
    """`postgresql://user:password@host/name`, with the options of libpq. Unset: SQLite in the data folder."""
    database_prepared_statements: Literal["auto", "on", "off"] = "auto"
    """Whether Keyturn keeps statements prepared in PostgreSQL. `auto`: yes, but not behind a pooler in transaction
    mode (such as PgBouncer), which Keyturn recognises: there, the next statement may get another connection of the
    server."""
    redis_url: SecretStr | None = None
    """`redis://host:6379/0`, `unix:///path`, `redis+sentinel://h:p,h:p/master/0` or `redis+cluster://h:p,h:p`. With
    TLS: `rediss`, `rediss+sentinel`, `rediss+cluster`. Unset: attempt counters and claims are kept in the process."""
    master_secrets: SecretStr | None = None
    """The secrets from which the keys of secrets at rest, of pending, refresh and device tokens and of links are
    derived: comma-separated, each 32 bytes or more in hex or base64. The first one seals and signs; all of them open
    and verify. Without the secret nothing sealed can be read again."""
    master_secrets_file: Path | None = None
    """A file with the master secrets, one a line, such as a secret that Docker or Kubernetes mounts as
    a file."""

    issuer: str = "http://localhost:8000"
    """The `iss` of every token: the URL under which relying services find this service (RFC 8414). It does not follow
    from host or port."""
    audience: Audience = ""
    """The `aud` of access tokens. Unset: the issuer."""
    claims: ClaimNames = ()
    """The names of the static claims of users that access tokens contain, such as `tenant`; comma-separated. The
    admin API, `keyturn users set-claims` or an import sets their values. None by default. It can name neither
    registered claims nor those of Keyturn."""
    totp_issuer: ServiceName = "Keyturn"
    """The name that authenticator apps show beside the username."""
    access_ttl: Annotated[int, InSeconds(30, 86400, like="10m")] = 600
    """The lifetime of an access token. A relying service that only verifies tokens trusts one for that
    long after its session ended. Keyturn itself applies a shorter value to older tokens at once."""
    mfa_pending_ttl: Annotated[int, InSeconds(30, 3600, like="5m")] = 300
    """The lifetime of a pending token: the time in which the user must give the code."""
    refresh_ttl: Annotated[int, InSeconds(60, 315360000, like="30d")] = 2592000
    """The maximum lifetime of a session; ten years at the most."""
    refresh_idle_ttl: Annotated[int, InSeconds(60, 315360000, like="7d")] = 604800
    """The time after which a session that is not refreshed expires."""

    signing_algorithm: Literal["ES256", "EdDSA", "RS256"] = "ES256"
    """The algorithm of new signing keys. ES256 is fast to sign with and is read by every verifier."""
    key_rotation_days: Annotated[int, InDays(0, 3650, like="90d")] = 90
    """Days for which a signing key signs. Its successor is published ahead and takes over by itself. 0: never."""
    key_lead: Duration = timedelta(hours=1)
    """How long a new signing key is published before it signs, `330s` to `30d` and no longer than the rotation. Set
    at least the time for which verifiers cache the key set."""
    totp_skew_steps: int = Field(1, ge=0, le=2)
    """Time steps of 30 s that are accepted on either side of the current one (RFC 6238 section 5.2 recommends at most
    one)."""
    require_mfa: MfaRequirement = ()
    """Who must have a second factor: `off` for nobody, `everyone`, or a list of roles. A login without one begins an
    enrolment.

    Sessions that were opened without a second factor end. Where `KEYTURN_REMEMBER_DEVICE_DAYS` is not 0, a known
    device may stand in for the second factor at a login, and its session stays.
    """
    remember_device_days: Annotated[int, InDays(0, 90, like="30d")] = 0
    """Days after a second factor was proved on a device, for which that device stands in for it. 0: never.

    This holds under `KEYTURN_REQUIRE_MFA` too; the tokens then have `acr` `aal1`. With 0, `KEYTURN_REQUIRE_MFA` ends
    the sessions that were opened on a known device without a code.
    """
    recovery_delay: Delay = None
    """Time from `POST /recovery` to the login that enrols a new second factor, such as `72h`. `off`: only an operator
    can help.

    Unset: 72 h with a webhook, which receives an event at once when a delay starts, and `off` without one. If it is
    set without a webhook, only a user with a confirmed e-mail address is notified, and only if messages are sent.
    Others see a request at `GET /me` and `GET /events`, which need an access token.
    """
    deletion_delay: Annotated[int, InSeconds(0, 7776000, like="14d")] = 1209600
    """The time from `DELETE /me` to the removal of the account, in which its user can take the deletion back. 0: the
    account is removed at once."""
    signup: Literal["open", "invited", "closed"] = "open"
    """Who may create an account at `POST /signup`. `invited`: the holders of an invitation, which `keyturn users
    invite` makes. `closed`: nobody; accounts are made by `keyturn users add`, `keyturn users import` and `POST
    /admin/users`."""
    admin_api: Literal["off", "on"] = "off"
    """Whether `/admin` exists, by which registered clients and users with the role `keyturn-admin` administer
    accounts, clients and invitations. All of its paths begin with `/admin/`, so that a proxy can refuse requests
    for them from outside."""
    account_page: Literal["on", "off"] = "on"
    """Whether `/account` is served: a page on which users sign up, log in and manage their account."""
    account_style: Path | None = None
    """A file of CSS variables that gives the page at `/account` your colours, such as `:root { --accent: #0a5; }`.
    The page shows `KEYTURN_TOTP_ISSUER` as its name."""
    password_min_length: int = Field(8, ge=8, le=128)
    """Characters that a new password needs if the account has a second factor (NIST SP 800-63B-4: eight or more). A
    second factor counts if it is confirmed, if its enrolment has begun or begins with the same sign-up, or if
    `KEYTURN_REQUIRE_MFA` requires one of the user."""
    password_min_length_alone: int = Field(15, ge=8, le=128)
    """Characters that a new password needs otherwise, where it alone opens the account (NIST SP 800-63B-4: fifteen or
    more). At least `KEYTURN_PASSWORD_MIN_LENGTH`; unset, the greater of 15 and that."""
    breached_passwords: LeakedPasswords = None
    """A list of leaked passwords with which a new password is compared: `off`, the URL of a service that answers
    ranges (`GET URL/PREFIX` with five digits of the SHA-1, as Have I Been Pwned), or the path of a file that `keyturn
    passwords build-list` made. A password that the list has is refused; without an answer within a second it is
    accepted."""
    trusted_proxies: Networks = ()
    """Addresses or networks of proxies whose forwarded header is believed. None by default: the address of a caller
    is that of the peer. An IPv4 proxy matches IPv4 networks only, which may also be written as `::ffff:10.0.0.0/104`.
    `::/0` contains no IPv4 address."""
    forwarded_header: ForwardedHeader = "x-forwarded-for"
    """The header in which trusted proxies name the caller: `x-forwarded-for`, or `forwarded` (RFC 7239).

    Only this one is read. The proxy must overwrite it or append to it: a header that the proxy passes on unchanged is
    the caller's own claim.
    """
    cors_origins: Origins = ()
    """Origins whose scripts may call this service from a browser, such as `https://app.example.com`. Wildcards are
    not supported. None by default. Pages of these origins may also use the cookies of a browser, if they have the
    scheme and the registrable domain of the issuer."""
    cors_headers: HeaderNames = ()
    """Request headers that scripts of `KEYTURN_CORS_ORIGINS` may send besides the usual ones and those of tracing
    libraries."""

    hash_concurrency: int | None = Field(None, ge=1, le=256)
    """Threads of a worker that hash passwords, each of which needs 19 MiB while it hashes.

    Unset: the cores divided by the workers, and no more than the memory limit of the container has room for.
    """
    hash_queue: int = Field(16, ge=0, le=4096)
    """Password hashes that may wait for a thread. Beyond them the answer is 503 with `Retry-After`, never a
    timeout."""
    limit_signup: Limit = Rate(20, 3600)
    """Requests for an account per address, including those that are refused because the username is taken. `off`: any
    number. To close sign-up, set `KEYTURN_SIGNUP=closed`."""
    limit_login: Limit = Rate(5, 900)
    """Failed passwords per username and address that need no wait. Before each further attempt the caller must wait:
    1 s, 2 s, 4 s and so on, up to a minute."""
    limit_login_address: Limit = Rate(60, 300)
    """Failed passwords per address (IPv6: per /64)."""
    limit_login_username: Limit = Rate(100, 3600)
    """Failed passwords per username, after which each address has one free failure instead of five."""

    otlp_endpoint: str | None = None
    """Base URL of an OpenTelemetry collector (OTLP over HTTP), which then receives a trace of each request,
    unless the caller's `traceparent` or a sampler of the SDK excludes it. The `OTEL_` variables of the SDK apply too.
    Unset: no traces."""
    log_format: Literal["json", "console"] = "json"
    """`json`: one object a line. `console`: for reading in a terminal."""
    docs: bool | None = None
    """Whether `/docs` and `/openapi.json` are served. Unset: on loopback only."""
    attack_proof: SecretStr | None = None
    """At least 32 characters that `keyturn attack` must know to attack from another machine. Their SHA-256 is
    published in the metadata. Unset: no other machine may attack."""

    @model_validator(mode="after")
    def _check_safety(self) -> Self:
        if self.workers > 1 and (self.database_url is None or self.redis_url is None):
            raise ValueError(
                f"KEYTURN_WORKERS is {self.workers}, which needs KEYTURN_DATABASE_URL and KEYTURN_REDIS_URL: the "
                "in-process store would count attempts in each worker separately, and SQLite has one writer. Use one "
                "worker, or set both"
            )
        if self.database_url is not None:
            if not self.database_url.get_secret_value().startswith(("postgresql://", "postgres://")):
                raise ValueError("KEYTURN_DATABASE_URL must begin with postgresql://")
            if self.master_secrets is None and self.master_secrets_file is None:
                raise ValueError(
                    "KEYTURN_DATABASE_URL is set but no master secret is: replicas must share one. Set "
                    "KEYTURN_MASTER_SECRETS (or _FILE) to the output of: openssl rand -hex 32"
                )
        if self.redis_url is not None:
            read_redis_url(self.redis_url.get_secret_value())  # raises a ValueError that names what is wrong
        if self.master_secrets is not None and self.master_secrets_file is not None:
            raise ValueError("KEYTURN_MASTER_SECRETS and KEYTURN_MASTER_SECRETS_FILE are both set. Unset one")
        if self.min_length_alone < self.password_min_length:
            raise ValueError(
                "KEYTURN_PASSWORD_MIN_LENGTH_ALONE must not be less than KEYTURN_PASSWORD_MIN_LENGTH: a second "
                f"factor never makes a password longer. Set it to {self.password_min_length} or more, or unset it"
            )
        if self.refresh_idle_ttl > self.refresh_ttl:
            raise ValueError("KEYTURN_REFRESH_IDLE_TTL must not be longer than KEYTURN_REFRESH_TTL")
        if self.attack_proof is not None and len(self.attack_proof.get_secret_value()) < MIN_PROOF_LENGTH:
            raise ValueError(
                f"KEYTURN_ATTACK_PROOF must have {MIN_PROOF_LENGTH} characters or more, or its published hash could "
                "be guessed. Set it to the output of: openssl rand -hex 32"
            )
        return self

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, issuer: str) -> str:
        """RFC 8414 section 2: a URL without query and fragment; verifiers compare it character by character."""
        check_http_url(issuer)
        if issuer.endswith("/"):
            raise ValueError("it must not end with a slash. Verifiers compare it character by character")
        return issuer

    @field_validator("otlp_endpoint")
    @classmethod
    def _check_collector_url(cls, url: str | None) -> str | None:
        return None if url is None else check_http_url(url)

    @model_validator(mode="after")
    def _check_key_lead(self) -> Self:
        if self.key_lead is None or not MIN_LEAD <= self.key_lead <= MAX_LEAD:
            raise ValueError(
                "KEYTURN_KEY_LEAD must be 330s to 30d, like 1h: with less, a verifier that caches the key set for "
                "five minutes, as it may, would receive tokens of a key that it does not have"
            )
        if self.key_rotation_days and self.key_lead > timedelta(days=self.key_rotation_days):
            raise ValueError(
                "KEYTURN_KEY_LEAD must not be longer than KEYTURN_KEY_ROTATION_DAYS: the next key would be published "
                "before this one signs. Shorten the lead, or rotate less often"
            )
        return self

    @property
    def recovery(self) -> timedelta | None:
        """The delay of `POST /recovery`, or `None` if it is off.

        Without a webhook, users without a confirmed e-mail address are not notified of a request. Recovery then needs
        an explicit setting.
        """
        if "recovery_delay" in self.model_fields_set:
            return self.recovery_delay
        return DEFAULT_RECOVERY_DELAY if self.webhook_url is not None else None

    @property
    def min_length_alone(self) -> int:
        """Characters of a new password without a second factor. Unset, it follows a greater `password_min_length`."""
        if "password_min_length_alone" in self.model_fields_set:
            return self.password_min_length_alone
        return max(self.password_min_length_alone, self.password_min_length)

    @property
    def message_transport(self) -> MessageTransport | None:
        """How messages to users leave; `None`: they are not sent, and what needs a message is not offered."""
        return self.choose_transport(self.issuer, listens_on_loopback=self.listens_on_loopback)

    @property
    def resolved_page_url(self) -> str:
        return self.page_url or f"{self.issuer}/account"

    @property
    def issuer_origin(self) -> str:
        """The origin of the issuer, as browsers send it."""
        return origin_of(self.issuer)

    @property
    def token_audience(self) -> str:
        return self.audience or self.issuer

    @property
    def hashing_threads(self) -> int:
        return self.hash_concurrency or hashing_threads(self.workers, cores=count_cores(), memory=memory_limit())

    @property
    def serves_docs(self) -> bool:
        return self.docs if self.docs is not None else self.listens_on_loopback

    @property
    def listens_on_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        return is_loopback(self.host)

    @property
    def resolved_database_url(self) -> str:
        """The URL for `connect_database`."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.sqlite_file}"

    @property
    def sqlite_file(self) -> Path:
        return self.data_dir.absolute() / "keyturn.sqlite3"

    @property
    def resolved_redis_url(self) -> str | None:
        return None if self.redis_url is None else self.redis_url.get_secret_value()

    @property
    def own_master_secret_file(self) -> Path | None:
        """The file in which the service keeps a master secret of its own; `None` if a setting gives the secrets."""
        is_named = self.master_secrets is not None or self.master_secrets_file is not None
        return None if is_named else self.data_dir / "master-secret"

    def read_master_secrets(self) -> list[bytes]:
        """Return the master secrets. If no setting gives them, create one in the data folder at the first start."""
        file = self.own_master_secret_file
        if file is not None:
            self.make_data_dir()
            if not file.exists():
                write_once(file, secrets.token_hex(32) + "\n")
        return self.find_master_secrets()

    def find_master_secrets(self) -> list[bytes]:
        """Return the existing master secrets, without creating one.

        Raises `ConfigurationError`, which names the setting or the file, if there is none or one cannot be read.
        """
        if self.master_secrets is not None:
            source, texts = f"{PREFIX}MASTER_SECRETS", self.master_secrets.get_secret_value().split(",")
        else:
            file = self.master_secrets_file or self.data_dir / "master-secret"
            source = f"The master secret in {file}"
            if self.master_secrets_file is not None:
                source = f"{PREFIX}MASTER_SECRETS_FILE ({file})"
            texts = read_lines(source, file)
        found = [read_master_secret(text, source) for text in texts if text.strip()]
        if not found:
            raise ConfigurationError(
                f"{source}: there is no master secret. Set it to the output of: openssl rand -hex 32"
            )
        return found

    def make_data_dir(self) -> None:
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"The data folder {self.data_dir} cannot be made: {error.strerror}.") from None
        if not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise ConfigurationError(f"The data folder {self.data_dir} cannot be written to by user {os.getuid()}.")
