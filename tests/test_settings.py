"""Every setting: its name, its default, its bounds, and the values that stop the start."""

import os
import secrets
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.environment import read_settings
from service.errors import ConfigurationError
from service.settings import PREFIX, Settings
from service.storage.sealing import Sealer
from service.values import Rate
from tests.harness.clients import SECRET
from tests.harness.servers import REPOSITORY, clean_environment

POSTGRESQL = {"KEYTURN_DATABASE_URL": "postgresql://keyturn@db/keyturn", "KEYTURN_MASTER_SECRETS": SECRET}
REDIS = {"KEYTURN_REDIS_URL": "redis://redis/0"}

DEFAULTS = {
    "KEYTURN_HOST": "127.0.0.1",
    "KEYTURN_PORT": 8000,
    "KEYTURN_WORKERS": 1,
    "KEYTURN_KEEP_ALIVE": 10,
    "KEYTURN_DRAIN_DELAY": 0,
    "KEYTURN_DATA_DIR": Path("data"),
    "KEYTURN_DATABASE_URL": None,
    "KEYTURN_DATABASE_PREPARED_STATEMENTS": "auto",
    "KEYTURN_REDIS_URL": None,
    "KEYTURN_MASTER_SECRETS": None,
    "KEYTURN_MASTER_SECRETS_FILE": None,
    "KEYTURN_ISSUER": "http://localhost:8000",
    "KEYTURN_TOTP_ISSUER": "Keyturn",
    "KEYTURN_ACCESS_TTL": 600,
    "KEYTURN_ACCOUNT_PAGE": "on",
    "KEYTURN_ACCOUNT_STYLE": None,
    "KEYTURN_ADMIN_API": "off",
    "KEYTURN_CLAIMS": (),
    "KEYTURN_MFA_PENDING_TTL": 300,
    "KEYTURN_REFRESH_TTL": 2592000,
    "KEYTURN_REFRESH_IDLE_TTL": 604800,
    "KEYTURN_SIGNING_ALGORITHM": "ES256",
    "KEYTURN_KEY_ROTATION_DAYS": 90,
    "KEYTURN_KEY_LEAD": timedelta(hours=1),
    "KEYTURN_REQUIRE_MFA": (),
    "KEYTURN_REMEMBER_DEVICE_DAYS": 0,
    "KEYTURN_RECOVERY_DELAY": None,
    "KEYTURN_DELETION_DELAY": 14 * 86400,
    "KEYTURN_SIGNUP": "open",
    "KEYTURN_WEBHOOK_URL": None,
    "KEYTURN_WEBHOOK_SECRET": None,
    "KEYTURN_MESSAGES": None,
    "KEYTURN_SMTP_URL": None,
    "KEYTURN_MAIL_FROM": None,
    "KEYTURN_PAGE_URL": None,
    "KEYTURN_TEMPLATES_DIR": None,
    "KEYTURN_LOCALE": "en",
    "KEYTURN_TOTP_SKEW_STEPS": 1,
    "KEYTURN_PASSWORD_MIN_LENGTH": 8,
    "KEYTURN_PASSWORD_MIN_LENGTH_ALONE": 15,
    "KEYTURN_BREACHED_PASSWORDS": None,
    "KEYTURN_TRUSTED_PROXIES": (),
    "KEYTURN_FORWARDED_HEADER": "x-forwarded-for",
    "KEYTURN_CORS_ORIGINS": (),
    "KEYTURN_CORS_HEADERS": (),
    "KEYTURN_HASH_QUEUE": 16,
    "KEYTURN_LIMIT_SIGNUP": Rate(20, 3600),
    "KEYTURN_LIMIT_LOGIN": Rate(5, 900),
    "KEYTURN_LIMIT_LOGIN_ADDRESS": Rate(60, 300),
    "KEYTURN_LIMIT_LOGIN_USERNAME": Rate(100, 3600),
    "KEYTURN_OTLP_ENDPOINT": None,
    "KEYTURN_LOG_FORMAT": "json",
    "KEYTURN_ATTACK_PROOF": None,
}
"""The settings and their defaults; names are fixed."""

DERIVED = {"KEYTURN_AUDIENCE", "KEYTURN_DOCS", "KEYTURN_HASH_CONCURRENCY"}
"""The settings whose defaults follow from others, or from the machine."""


def read(**environment: str) -> Settings:
    return read_settings(environment)


def refusal(**environment: str) -> str:
    """Return the sentence with which these settings are refused."""
    with pytest.raises(ConfigurationError) as refused:
        read_settings(environment)
    return str(refused.value)


def value(settings: Settings, name: str) -> Any:
    return getattr(settings, name.removeprefix(PREFIX).lower())


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_setting_has_its_name_and_its_default(name: str) -> None:
    """Without any variable the service works as documented."""
    assert DEFAULTS[name] == value(read(), name)


def test_there_are_no_other_settings() -> None:
    """Each setting is listed above, and each has a docstring that says what it is for."""
    assert set(DEFAULTS) | DERIVED == {PREFIX + name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_other_defaults_follow_from_other_settings() -> None:
    """The audience is the issuer, docs are for loopback, and hashing shares the cores among the workers."""
    assert "https://id.example.com" == read(KEYTURN_ISSUER="https://id.example.com").token_audience
    assert "api" == read(KEYTURN_AUDIENCE="api").token_audience
    for host, served in (("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)):  # noqa: S104
        assert served == read(KEYTURN_HOST=host).serves_docs
        assert read(KEYTURN_HOST=host, KEYTURN_DOCS="true").serves_docs
        assert not read(KEYTURN_HOST=host, KEYTURN_DOCS="false").serves_docs
    assert 1 <= read().hashing_threads <= (os.cpu_count() or 1)
    assert 1 == read(KEYTURN_WORKERS="256", **POSTGRESQL, **REDIS).hashing_threads
    assert 3 == read(KEYTURN_HASH_CONCURRENCY="3", KEYTURN_WORKERS="2", **POSTGRESQL, **REDIS).hashing_threads


BOUNDS = [
    ("KEYTURN_PORT", 0, 65535, {}),
    ("KEYTURN_WORKERS", 1, 256, {**POSTGRESQL, **REDIS}),
    ("KEYTURN_KEEP_ALIVE", 5, 3600, {}),
    ("KEYTURN_DRAIN_DELAY", 0, 600, {}),
    ("KEYTURN_ACCESS_TTL", 30, 86400, {}),
    ("KEYTURN_MFA_PENDING_TTL", 30, 3600, {}),
    ("KEYTURN_REFRESH_TTL", 60, None, {"KEYTURN_REFRESH_IDLE_TTL": "60"}),
    ("KEYTURN_REFRESH_IDLE_TTL", 60, 2592000, {}),
    ("KEYTURN_TOTP_SKEW_STEPS", 0, 2, {}),
    ("KEYTURN_PASSWORD_MIN_LENGTH", 8, 128, {}),
    ("KEYTURN_PASSWORD_MIN_LENGTH_ALONE", 8, 128, {}),
    ("KEYTURN_HASH_CONCURRENCY", 1, 256, {}),
    ("KEYTURN_HASH_QUEUE", 0, 4096, {}),
]


@pytest.mark.parametrize(("name", "least", "most", "others"), BOUNDS, ids=[bound[0] for bound in BOUNDS])
def test_a_number_has_bounds(name: str, least: int, most: int | None, others: dict[str, str]) -> None:
    """The minimum and the maximum are accepted; one less and one more are refused with the setting's name."""
    assert least == value(read(**{**others, name: str(least)}), name)
    assert name in refusal(**{**others, name: str(least - 1)})
    if most is not None:
        assert most == value(read(**{**others, name: str(most)}), name)
        assert name in refusal(**{**others, name: str(most + 1)})
    for nonsense in ("many", "1.5", "1e3", "0x10", "1 000", "-", "\u0661\u0662\u0663x"):
        assert name in refusal(**{**others, name: nonsense})


@pytest.mark.parametrize(
    ("name", "accepted", "refused"),
    [
        ("KEYTURN_SIGNING_ALGORITHM", ["ES256", "EdDSA", "RS256"], ["HS256", "none", "es256", "ES384", "PS256"]),
        ("KEYTURN_LOG_FORMAT", ["json", "console"], ["JSON", "text", "logfmt"]),
        ("KEYTURN_FORWARDED_HEADER", ["x-forwarded-for", "Forwarded"], ["x-real-ip", "forwarded, x-forwarded-for"]),
        ("KEYTURN_DOCS", ["true", "false", "1", "0"], ["maybe", "2"]),
    ],
)
def test_a_choice_accepts_only_its_values(name: str, accepted: list[str], refused: list[str]) -> None:
    """The listed values are accepted and no others."""
    for text in accepted:
        read(**{name: text})
    for text in refused:
        assert name in refusal(**{name: text})


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/15m", Rate(5, 900)),
        ("1/1s", Rate(1, 1)),
        ("20/1h", Rate(20, 3600)),
        ("100/30d", Rate(100, 2592000)),
        (" 5 / 15 m ", Rate(5, 900)),
        ("off", None),
        ("OFF", None),
        (" off ", None),
    ],
)
@pytest.mark.parametrize("name", ["SIGNUP", "LOGIN", "LOGIN_ADDRESS", "LOGIN_USERNAME"])
def test_a_limit_is_a_count_and_a_time_or_off(name: str, text: str, rate: Rate | None) -> None:
    """It is a count, a slash, a number and one of s m h d; `off` is a value of every limit."""
    assert rate == value(read(**{f"KEYTURN_LIMIT_{name}": text}), f"KEYTURN_LIMIT_{name}")


@pytest.mark.parametrize(
    "text",
    ["5", "5/15", "5/m", "/15m", "0/15m", "5/0m", "-5/15m", "5/-15m", "5/15w", "5/15M", "5/15min", "5 per 15m",
     "5/15m/1h", "five/15m", "1.5/15m", "none", "unlimited", "0", "\uff15/15m", "5/15m;", "9999999999/1s",
     "5/9999999d", "null", "[5, 900]"],
)  # fmt: skip
def test_an_invalid_limit_is_refused(text: str) -> None:
    """A misread limit must not turn the limit off; the sentence shows the form."""
    sentence = refusal(KEYTURN_LIMIT_LOGIN=text)
    assert "KEYTURN_LIMIT_LOGIN" in sentence
    assert "5/15m" in sentence


@pytest.mark.parametrize(
    "name",
    ["KEYTURN_PROT", "KEYTURN_DATABASE", "KEYTURN_", "KEYTURN_LIMIT", "KEYTURN_MASTER_SECRET", "keyturn_port",
     "Keyturn_Port"],
)  # fmt: skip
def test_a_misspelt_variable_stops_the_start_with_its_name(name: str) -> None:
    """Otherwise the operator would believe that the setting has an effect."""
    sentence = refusal(**{name: "8000"})
    assert name in sentence
    assert "8000" not in sentence


def test_every_misspelt_variable_is_named() -> None:
    """They are named together, so that the operator can correct them in one pass."""
    sentence = refusal(KEYTURN_PROT="1", KEYTURN_HSOT="2", KEYTURN_PORT="3")
    assert "KEYTURN_HSOT, KEYTURN_PROT" in sentence
    assert "KEYTURN_PORT" not in sentence


def test_every_mistake_is_reported_at_once() -> None:
    """Each mistake has its own sentence."""
    lines = refusal(KEYTURN_PORT="http", KEYTURN_LIMIT_LOGIN="5", KEYTURN_ACCESS_TTL="1").splitlines()
    assert 3 == len(lines)
    for name in ("KEYTURN_PORT", "KEYTURN_LIMIT_LOGIN", "KEYTURN_ACCESS_TTL"):
        assert 1 == sum(line.startswith(name) for line in lines)


def test_variables_of_other_programs_are_ignored() -> None:
    """Only names that begin with `KEYTURN_` are checked."""
    settings = read(PORT="1", HOST="nowhere", KEYTURNPORT="2", MY_KEYTURN_PORT="3", PATH="/bin")
    assert (8000, "127.0.0.1") == (settings.port, settings.host)


def test_an_empty_variable_counts_as_unset() -> None:
    """A compose file sets a variable that the host lacks to nothing: tested for every setting, in a real process."""
    empty = {PREFIX + name.upper(): "" for name in Settings.model_fields}
    assert read() == read_settings(empty)
    script = "from service.environment import read_settings; s = read_settings()"
    script += "; print(s.port, s.redis_url, s.limit_login)"
    answer = subprocess.run(
        [sys.executable, "-c", script],
        env={**clean_environment(), **empty},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("", f"8000 None {Rate(5, 900)}\n") == (answer.stderr, answer.stdout)


def test_arguments_override_the_environment() -> None:
    """`serve --port` decides."""
    assert 9000 == read_settings({"KEYTURN_PORT": "8000"}, port=9000).port
    with pytest.raises(ConfigurationError, match="KEYTURN_PORT"):
        read_settings({}, port=65536)


def test_settings_are_immutable() -> None:
    """The values checked at the start stay valid."""
    with pytest.raises(ValueError, match="frozen"):
        read().port = 1  # type: ignore[misc]


def test_lists_are_separated_by_commas_or_spaces() -> None:
    """This holds for proxies and origins, with any white space between."""
    settings = read(KEYTURN_TRUSTED_PROXIES="10.0.0.0/8, 192.168.1.1\n::1", KEYTURN_CORS_ORIGINS="https://a.example,")
    assert ("10.0.0.0/8", "192.168.1.1", "::1") == settings.trusted_proxies
    assert ("https://a.example",) == settings.cors_origins


def test_a_list_of_leaked_passwords_is_off_a_url_or_a_path() -> None:
    """`off` may be in capitals. A final slash of the URL is removed, since the digits are appended after one."""
    for text, expected in (
        ("off", None),
        ("OFF", None),
        ("https://ranges.example.com/range/", "https://ranges.example.com/range"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("/var/lib/keyturn/leaked.list", Path("/var/lib/keyturn/leaked.list")),
        ("leaked.list", Path("leaked.list")),
    ):
        assert expected == read(KEYTURN_BREACHED_PASSWORDS=text).breached_passwords


def test_a_network_of_mapped_addresses_is_an_ipv4_network() -> None:
    """Networks in other forms stay as they are written, also with bits of the host; wider ones are IPv6 only."""
    written = "::ffff:127.0.0.0/104 ::ffff:10.1.2.3 ::FFFF:0:0/96 ::ffff:10.1.2.3/120 10.1.2.3/8 2001:DB8::1/32 ::/0"
    assert (
        *("127.0.0.0/8", "10.1.2.3/32", "0.0.0.0/0", "10.1.2.0/24"),
        *("10.1.2.3/8", "2001:DB8::1/32", "::/0"),
    ) == read(KEYTURN_TRUSTED_PROXIES=written).trusted_proxies


UNSAFE: list[tuple[dict[str, str], str]] = [
    ({"KEYTURN_WORKERS": "2"}, "KEYTURN_DATABASE_URL and KEYTURN_REDIS_URL"),
    ({"KEYTURN_WORKERS": "2", **POSTGRESQL}, "KEYTURN_REDIS_URL"),
    ({"KEYTURN_WORKERS": "2", **REDIS}, "KEYTURN_DATABASE_URL"),
    ({"KEYTURN_DATABASE_URL": "postgresql://db/keyturn"}, "openssl rand -hex 32"),
    ({"KEYTURN_MASTER_SECRETS": SECRET, "KEYTURN_MASTER_SECRETS_FILE": "/run/secret"}, "Unset one"),
    ({"KEYTURN_DATABASE_URL": "mysql://db/keyturn", "KEYTURN_MASTER_SECRETS": SECRET}, "postgresql://"),
    ({"KEYTURN_DATABASE_URL": "sqlite:///x", "KEYTURN_MASTER_SECRETS": SECRET}, "postgresql://"),
    ({"KEYTURN_DATABASE_URL": "db:5432", "KEYTURN_MASTER_SECRETS": SECRET}, "postgresql://"),
    ({"KEYTURN_DATABASE_URL": "postgresql:db/keyturn", "KEYTURN_MASTER_SECRETS": SECRET}, "postgresql://"),
    ({"KEYTURN_REDIS_URL": "http://redis"}, "redis://"),
    ({"KEYTURN_REDIS_URL": "redis:6379"}, "redis://"),
    ({"KEYTURN_REDIS_URL": "memcached://redis"}, "redis://"),
    ({"KEYTURN_REFRESH_TTL": "3600"}, "KEYTURN_REFRESH_IDLE_TTL"),
    ({"KEYTURN_REFRESH_IDLE_TTL": "2592001"}, "KEYTURN_REFRESH_TTL"),
    ({"KEYTURN_ISSUER": "https://id.example.com/"}, "KEYTURN_ISSUER"),
    ({"KEYTURN_ISSUER": "id.example.com"}, "KEYTURN_ISSUER"),
    ({"KEYTURN_ISSUER": "ftp://id.example.com"}, "KEYTURN_ISSUER"),
    ({"KEYTURN_ISSUER": "https://id.example.com?tenant=1"}, "KEYTURN_ISSUER"),
    ({"KEYTURN_ISSUER": "https://id.example.com#top"}, "KEYTURN_ISSUER"),
    ({"KEYTURN_ISSUER": "https:id.example.com"}, "KEYTURN_ISSUER"),
    ({"KEYTURN_TOTP_ISSUER": "Key:turn"}, "KEYTURN_TOTP_ISSUER"),
    ({"KEYTURN_TOTP_ISSUER": "  "}, "KEYTURN_TOTP_ISSUER"),
    ({"KEYTURN_TOTP_ISSUER": "x" * 65}, "KEYTURN_TOTP_ISSUER"),
    ({"KEYTURN_TRUSTED_PROXIES": "10.0.0.0/8, proxy.example.com"}, "proxy.example.com"),
    ({"KEYTURN_TRUSTED_PROXIES": "10.0.0.0/99"}, "10.0.0.0/99"),
    ({"KEYTURN_TRUSTED_PROXIES": "*"}, "*"),
    ({"KEYTURN_KEY_LEAD": "off"}, "KEYTURN_KEY_LEAD must be 330s to 30d, like 1h"),
    ({"KEYTURN_KEY_LEAD": "329s"}, "KEYTURN_KEY_LEAD must be 330s to 30d, like 1h"),
    ({"KEYTURN_KEY_LEAD": "31d"}, "KEYTURN_KEY_LEAD must be 330s to 30d, like 1h"),
    ({"KEYTURN_KEY_LEAD": "1 hour"}, "KEYTURN_KEY_LEAD: write it like 1h"),
    ({"KEYTURN_KEY_LEAD": "25h", "KEYTURN_KEY_ROTATION_DAYS": "1"}, "longer than KEYTURN_KEY_ROTATION_DAYS"),
]


@pytest.mark.parametrize(("environment", "advice"), UNSAFE, ids=[" ".join(e) + f" {a}" for e, a in UNSAFE])
def test_an_inconsistent_or_unsafe_setting_stops_the_start(environment: dict[str, str], advice: str) -> None:
    """One sentence names the setting or says what to do."""
    sentence = refusal(**environment)
    assert advice in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "environment",
    [
        {},
        POSTGRESQL,
        {**POSTGRESQL, **REDIS, "KEYTURN_WORKERS": "8"},
        REDIS,
        {"KEYTURN_MASTER_SECRETS": f"{SECRET},{SECRET[::-1]}"},
        {"KEYTURN_DATABASE_URL": "postgres://keyturn@db/keyturn", "KEYTURN_MASTER_SECRETS_FILE": "/run/secret"},
        {"KEYTURN_REDIS_URL": "rediss://user:word@redis:6380/1"},
        {"KEYTURN_REDIS_URL": "redis+sentinel://one:26379,two:26379/keyturn"},
        {"KEYTURN_REDIS_URL": "redis+cluster://one:6379,two:6379"},
        {"KEYTURN_REDIS_URL": "rediss+sentinel://one:26379/keyturn/1?sentinel_password=word"},
        {"KEYTURN_REDIS_URL": "rediss+cluster://[::1]:6379"},
        {"KEYTURN_REDIS_URL": "unix:///run/redis.sock"},
        {"KEYTURN_ISSUER": "https://id.example.com/tenants/one"},
        {"KEYTURN_TOTP_ISSUER": "Zo\u00eb & Sons"},
        {"KEYTURN_KEY_LEAD": "330s"},
        {"KEYTURN_KEY_LEAD": "30d", "KEYTURN_KEY_ROTATION_DAYS": "0"},
        {"KEYTURN_KEY_LEAD": "24h", "KEYTURN_KEY_ROTATION_DAYS": "1"},
    ],
    ids=lambda environment: " ".join(f"{name[8:]}={text[:24]}" for name, text in environment.items()),
)
def test_consistent_settings_are_accepted(environment: dict[str, str]) -> None:
    """They are embedded and production settings, and the forms of URLs."""
    read_settings(environment)


WORD = "hunter2-hunter2"


@pytest.mark.parametrize(
    "environment",
    [
        {"KEYTURN_DATABASE_URL": f"mysql://keyturn:{WORD}@db/keyturn", "KEYTURN_MASTER_SECRETS": WORD},
        {"KEYTURN_REDIS_URL": f"http://:{WORD}@redis"},
        {"KEYTURN_DATABASE_URL": f"postgresql://keyturn:{WORD}@db/keyturn"},
        {
            "KEYTURN_WORKERS": "2",
            "KEYTURN_DATABASE_URL": f"postgresql://k:{WORD}@db/k",
            "KEYTURN_MASTER_SECRETS": WORD,
        },
        {"KEYTURN_PORT": "x", "KEYTURN_MASTER_SECRETS": WORD, "KEYTURN_REDIS_URL": f"redis://:{WORD}@redis"},
    ],
)
def test_an_error_reveals_no_secret(environment: dict[str, str]) -> None:
    """Errors are copied into tickets, so they contain no password and no master secret."""
    assert WORD not in refusal(**environment)


def test_settings_reveal_no_secret() -> None:
    """Printed, formatted or dumped, the URLs' passwords and the master secrets are stars."""
    settings = read(
        KEYTURN_DATABASE_URL=f"postgresql://keyturn:{WORD}@db/keyturn",
        KEYTURN_REDIS_URL=f"redis://:{WORD}@redis",
        KEYTURN_MASTER_SECRETS=WORD,
    )
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert WORD not in text
    assert settings.resolved_database_url.endswith("@db/keyturn")
    assert f"redis://:{WORD}@redis" == settings.resolved_redis_url


# Master secrets

OTHER = "ff" * 32


def test_master_secrets_come_from_the_variable() -> None:
    """They are comma-separated and ordered, in hex or base64, with spaces and an extra comma allowed."""
    base64 = "//////////////////////////////////////////8="
    settings = read(KEYTURN_MASTER_SECRETS=f" {SECRET} ,{base64},")
    assert [bytes.fromhex(SECRET), bytes.fromhex(OTHER)] == settings.read_master_secrets()


def test_master_secrets_come_from_a_file(tmp_path: Path) -> None:
    """The file has one secret a line; blank lines and line ends of either kind are ignored."""
    file = tmp_path / "secret"
    file.write_bytes(f"{SECRET}\r\n\n{OTHER}".encode())
    settings = read(KEYTURN_MASTER_SECRETS_FILE=str(file))
    assert [bytes.fromhex(SECRET), bytes.fromhex(OTHER)] == settings.read_master_secrets()


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"short", SECRET.encode() + b"\nshort", b"", b"\n \n"])
def test_an_unreadable_file_of_master_secrets_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """An absent, binary, short or empty file gets a sentence without its content; no other secret is generated."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    settings = read(KEYTURN_MASTER_SECRETS_FILE=str(file), KEYTURN_DATA_DIR=str(tmp_path / "data"))
    with pytest.raises(ConfigurationError) as refused:
        Sealer(settings.read_master_secrets())
    assert SECRET not in str(refused.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("text", [",", "short", f"{SECRET},short", " , "])
def test_an_invalid_list_of_master_secrets_is_refused(text: str) -> None:
    """This holds also if only one secret is invalid, or if there is none."""
    with pytest.raises(ConfigurationError):
        Sealer(read(KEYTURN_MASTER_SECRETS=text).read_master_secrets())


def test_a_proof_that_could_be_guessed_is_refused() -> None:
    """The hash of the proof is public, so the proof has to be long."""
    with pytest.raises(ConfigurationError, match="32 characters or more"):
        read(KEYTURN_ATTACK_PROOF="x" * 31)
    proof = read(KEYTURN_ATTACK_PROOF="x" * 32).attack_proof
    assert proof is not None
    assert "x" * 32 == proof.get_secret_value()
    assert "x" * 32 not in repr(proof)


def test_without_a_setting_the_master_secret_is_generated_once(tmp_path: Path) -> None:
    """It lies beside the database, only its owner can read it, and it is the same at every start."""
    settings = read(KEYTURN_DATA_DIR=str(tmp_path / "deep" / "data"))
    settings.make_data_dir()
    generated = settings.read_master_secrets()
    assert generated == settings.read_master_secrets()
    assert generated == read(KEYTURN_DATA_DIR=str(tmp_path / "deep" / "data")).read_master_secrets()
    assert [32] == [len(secret) for secret in generated]
    file = tmp_path / "deep" / "data" / "master-secret"
    assert "0o600" == oct(stat.S_IMODE(file.stat().st_mode))
    assert "0o700" == oct(stat.S_IMODE(file.parent.stat().st_mode))
    assert [file] == list(file.parent.iterdir())
    (tmp_path / "other").mkdir()
    assert generated != read(KEYTURN_DATA_DIR=str(tmp_path / "other")).read_master_secrets()


def test_a_second_master_secret_may_be_added_to_the_file(tmp_path: Path) -> None:
    """In the embedded mode a new line in front rotates the secret, too."""
    settings = read(KEYTURN_DATA_DIR=str(tmp_path))
    (old,) = settings.read_master_secrets()
    new = secrets.token_bytes(32)
    (tmp_path / "master-secret").write_text(f"{new.hex()}\n{old.hex()}\n")
    assert [new, old] == settings.read_master_secrets()


def test_processes_that_start_at_once_generate_one_master_secret(tmp_path: Path) -> None:
    """Six processes agree, and no temporary file is left."""
    script = "from service.environment import read_settings; settings = read_settings(); settings.make_data_dir(); "
    script += "print(settings.read_master_secrets()[0].hex())"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**clean_environment(), "KEYTURN_DATA_DIR": str(tmp_path / "data")},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    outputs = {process.communicate(timeout=60)[0] for process in running}
    assert 1 == len(outputs)
    assert 65 == len(outputs.pop())
    assert ["master-secret"] == [path.name for path in (tmp_path / "data").iterdir()]


def test_a_folder_that_cannot_be_created_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """For example, a file of that name exists already."""
    (tmp_path / "data").write_text("")
    for folder in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(ConfigurationError, match="cannot be made"):
            read(KEYTURN_DATA_DIR=str(folder)).make_data_dir()


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("DATABASE_URL", "postgresql://keyturn:hunter2@db/keyturn"),
        ("REDIS_URL", "redis://:hunter2@redis/0"),
        ("WEBHOOK_SECRET", "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"),
        ("ATTACK_PROOF", "0123456789abcdef" * 2),
    ],
)
def test_a_secret_may_be_in_a_file(tmp_path: Path, name: str, secret: str) -> None:
    """A newline at its end is allowed; the variable itself must be unset; errors do not contain the secret."""
    file = tmp_path / "secret"
    setting = f"KEYTURN_{name}_FILE"
    others = {"KEYTURN_MASTER_SECRETS": SECRET}
    file.write_text(secret + "\n")
    found = getattr(read_settings({**others, setting: str(file)}), name.lower())
    assert secret == found.get_secret_value()
    with pytest.raises(ConfigurationError, match=f"KEYTURN_{name} and {setting} are both set"):
        read_settings({**others, setting: str(file), f"KEYTURN_{name}": secret})
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_settings({**others, setting: str(tmp_path / "nowhere")})
    for wrong in ("", f"{secret}\n{secret}\n"):
        file.write_text(wrong)
        with pytest.raises(ConfigurationError, match="must have one line") as refused:
            read_settings({**others, setting: str(file)})
        assert "hunter2" not in str(refused.value)
