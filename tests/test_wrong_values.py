"""Mistakes of an operator in a setting: each value is refused in one sentence with its name and the remedy."""

import os
from pathlib import Path

import pytest

from service.cli import main
from service.environment import read_settings
from service.settings import PREFIX
from tests.harness.clients import SECRET

SENDER = {"MAIL_FROM": "noreply@example.com"}
POSTGRESQL = {"DATABASE_URL": "postgresql://keyturn@127.0.0.1:1/keyturn", "MASTER_SECRETS": SECRET}
WEBHOOK = {"WEBHOOK_SECRET": "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"}

ISSUERS = [
    ("https://auth.example.com\nhttps://other.example.com", "white space"),
    ("https://auth example.com", "white space"),
    ("https://auth.example.com/a b", "white space"),
    ("https://user:pw@auth.example.com", "without them"),
    ("https://user@auth.example.com", "without them"),
    ("https://auth.example.com:0", "1 to 65535"),
    ("https://auth.example.com:65536", "1 to 65535"),
    ("https://auth.example.com:99999", "1 to 65535"),
    ("https://auth.example.com:https", "like https://"),
    ("https://auth.example.com:", "like https://"),
    ("https://auth.exam\u200bple.com", "U+200B"),
    ("https://auth.example\u00ad.com", "U+00AD"),
    ("https://auth\x07.example.com", "U+0007"),
    ("https://auth\u2028.example.com", "U+2028"),
    ("https://b\u00fccher.example", "xn--"),
    ("https://auth.example.com/", "slash"),
    ("https://a..b", "two dots in a row"),
    ("https://a..b:8443/x", "two dots in a row"),
    (f"https://{'a' * 64}.example", "more than 63"),
    ("https://a/%zz", "%25"),
    ("https://a/b%", "%25"),
    ("https://a/../b", ". or .."),
    ("https://a/b/%2E./c", ". or .."),
    ("https://a/b/.", ". or .."),
    ("https://auth.example.com?tenant=1", "query"),
    ("https://auth.example.com#top", "like https://"),
    ("https://", "like https://"),
    ("https:///path", "like https://"),
    ("https:auth.example.com", "like https://"),
    ("https//auth.example.com", "like https://"),
    ("auth.example.com", "like https://"),
    ("//auth.example.com", "like https://"),
    ("ftp://auth.example.com", "like https://"),
    ("javascript:alert(1)", "like https://"),
    ("${ISSUER}", "like https://"),
    ('"https://auth.example.com"', "quotation marks"),
    ("'https://auth.example.com'", "quotation marks"),
    ("https://[::1", "like https://"),
    ("https://[fe80::1::2]", "IPv6"),
    ("https://-auth.example.com", "like https://"),
    ("https://auth.example.com\\path", "like https://"),
    ("  ", "white space only"),
    ("\ufeff", "white space only"),
]

Row = tuple[str, str, str, dict[str, str]]


def rows(name: str, *values: tuple[str, str], others: dict[str, str] | None = None) -> list[Row]:
    return [(name, value, remedy, others or {}) for value, remedy in values]


WRONG: list[Row] = [
    *rows("ISSUER", *ISSUERS),
    *rows(
        "AUDIENCE",
        ("api, other", "one name"),
        ("api other", "one name"),
        ("a,b", "one name"),
        ("a\tb", "one name"),
        ("a\u200db", "U+200D"),
        ("x" * 256, "255"),
    ),
    *rows(
        "TOTP_ISSUER",
        ("Key:turn", "no colon"),
        ("x" * 65, "1 to 64"),
        ("Key\nturn", "line end"),
        ("Key\u202eturn", "U+202E"),
        (" \t ", "white space only"),
        ('"Keyturn"', "quotation marks"),
    ),
    *rows(
        "PORT",
        ("http", "whole number"),
        ("8000/tcp", "whole number"),
        ("65536", "65535"),
        ("-1", "0"),
        ("8000:8000", "whole number"),
        ("tcp://10.0.0.1:8000", "enableServiceLinks: false"),
        ("0x50", "whole number"),
    ),
    *rows(
        "WORKERS",
        ("0", "1"),
        ("257", "256"),
        ("auto", "whole number"),
        ("2", "KEYTURN_REDIS_URL"),
        ("1.5", "whole number"),
    ),
    *rows("KEEP_ALIVE", ("4s", "5 to 3600"), ("2h", "5 to 3600"), ("1.5m", "like 75s")),
    *rows("DRAIN_DELAY", ("-1s", "0 to 600"), ("11m", "0 to 600"), ("soon", "like 5s")),
    *rows("HOST", ("a..b", "127.0.0.1"), ("a" * 64, "127.0.0.1"), ("*", "127.0.0.1"), ("b\u00fccher", "127.0.0.1")),
    *rows("DATA_DIR", ("~/data", "whole path"), ("~", "whole path"), ("da\u200bta", "U+200B")),
    *rows(
        "DATABASE_URL",
        ("mysql://db/keyturn", "postgresql://"),
        ("sqlite:///x", "postgresql://"),
        ("db:5432/keyturn", "postgresql://"),
        ("postgres:db/keyturn", "postgresql://"),
        ("'postgresql://db/keyturn'", "quotation marks"),
        ("$DATABASE_URL", "postgresql://"),
        others={"MASTER_SECRETS": SECRET},
    ),
    *rows(
        "MASTER_SECRETS",
        ("postgresql://db/keyturn", "openssl rand -hex 32"),
        ("change-me", "openssl rand -hex 32"),
        (SECRET[:-1], "openssl rand -hex 32"),
        (SECRET[:32], "32 or more"),
        (f"{SECRET},short", "openssl rand"),
        (f'"{SECRET}"', "quotation marks"),
        (",", "openssl rand -hex 32"),
        (SECRET + "\u200b" + SECRET, "U+200B"),
    ),
    *rows("MASTER_SECRETS_FILE", ("/nowhere/secret", "cannot be read"), ("/", "cannot be read")),
    *rows(
        "REDIS_URL",
        ("redis:6379", "redis://"),
        ("http://redis", "redis://"),
        ("memcached://redis", "redis://"),
        ("redis//redis/0", "redis://"),
        ("'redis://redis/0'", "quotation marks"),
    ),
    *rows("ACCESS_TTL", ("29", "30"), ("86401", "86400"), ("25h", "86400"), ("10min", "like 10m")),
    *rows("MFA_PENDING_TTL", ("29", "30"), ("3601", "3600"), ("61m", "3600"), ("5 minutes", "like 5m")),
    *rows(
        "REFRESH_TTL",
        ("59", "60"),
        ("315360001", "315360000"),
        ("30days", "whole number"),
        ("3651d", "315360000"),
        ("99999999999999999999", "315360000"),
        ("3600", "KEYTURN_REFRESH_IDLE_TTL"),
    ),
    *rows("REFRESH_IDLE_TTL", ("59", "60"), ("2592001", "KEYTURN_REFRESH_TTL"), ("week", "whole number")),
    *rows("SIGNING_ALGORITHM", ("HS256", "ES256"), ("none", "ES256"), ("es256", "ES256"), ("ES256,RS256", "ES256")),
    *rows(
        "KEY_ROTATION_DAYS", ("-1", "0"), ("3651", "3650"), ("36h", "whole number of days"), ("quarterly", "like 90d")
    ),
    *rows("TOTP_SKEW_STEPS", ("3", "2"), ("-1", "0"), ("30s", "whole number")),
    *rows(
        "REQUIRE_MFA",
        ("off, admin", "write off"),
        ("everyone admin", "write off"),
        ("Admin", "a-z"),
        ("a/b", "a-z"),
        ("true", "write everyone"),
        ("no", "write off"),
        ("adm\u200bin", "U+200B"),
    ),
    *rows("REMEMBER_DEVICE_DAYS", ("91", "90"), ("-1", "0"), ("91d", "90"), ("12h", "whole number of days")),
    *rows(
        "RECOVERY_DELAY",
        ("72", "72h"),
        ("0h", "72h"),
        ("3 days", "72h"),
        ("never", "72h"),
        ("1w", "72h"),
        ("-1h", "72h"),
        ("1.5h", "72h"),
    ),
    *rows(
        "WEBHOOK_URL",
        ("receiver.example.com/hook", "like https://"),
        ("https://u:p@receiver.example.com", "without"),
        ("https://receiver.example.com:0/", "1 to 65535"),
        ("https://a..b/hook", "two dots in a row"),
        ("https://a/%zz", "%25"),
        ("https://a/hook?x=%4", "%25"),
        ("https://a/../b", ". or .."),
        ("https://receiver.example.com/#x", "like https://"),
        ("https://receiver example.com/", "white space"),
        ("ftp://receiver.example.com", "like https://"),
        others=WEBHOOK,
    ),
    *rows("WEBHOOK_URL", ("https://receiver.example.com", "KEYTURN_WEBHOOK_SECRET")),
    *rows(
        "WEBHOOK_SECRET",
        ("whsec_short", "openssl rand -base64 32"),
        ("secret", "openssl rand -base64 32"),
        ("whsec_" + "\u00e9" * 32, "openssl rand -base64 32"),
        ("whsec_" + "QUJD" * 30, "24 to 64"),
    ),
    *rows(
        "MESSAGES",
        ("smtp", "off"),
        ("mail", "webhook"),
        ("on", "off"),
        ("WEBHOOK", "webhook"),
        ("false", "off"),
        ("webhook", "KEYTURN_WEBHOOK_URL"),
    ),
    *rows(
        "MESSAGES",
        ("webhook", "Unset one"),
        others={**WEBHOOK, **SENDER, "WEBHOOK_URL": "https://a.example", "SMTP_URL": "smtp://mail.example.com"},
    ),
    *rows("SMTP_URL", ("smtps://mail.example.com", "KEYTURN_MAIL_FROM")),
    *rows(
        "SMTP_URL",
        ("mail.example.com:587", "smtp:// or smtps://"),
        ("https://mail.example.com", "smtp:// or smtps://"),
        ("mailto:noreply@example.com", "smtp:// or smtps://"),
        ("smtp://", "a host that is empty"),
        ("smtp://:587", "a host that is empty"),
        ("smtp://user@mail.example.com", "or neither"),
        ("smtp://:word@mail.example.com", "or neither"),
        ("smtp://user:pa#ss@mail.example.com", "%23"),
        ("smtp://user:pa/ss@mail.example.com", "%2F"),
        ("smtp://user:pa%ss@mail.example.com", "%25"),
        ("smtp://user:pa%0ass@mail.example.com", "line break"),
        ("smtp://user:pass word@mail.example.com", "white space"),
        ("smtp://mail.example.com:0", "1 to 65535"),
        ("smtp://mail.example.com:tls", "1 to 65535"),
        ("smtp://::1:25", "brackets"),
        ("smtp://a..b", "two dots in a row"),
        ("smtp://mail.example.com/?starttls=1", "STARTTLS"),
        ("smtp://mail.example.com?verify=no", "SSL_CERT_FILE"),
        ("smtp://mail.example.com/inbox", "remove it"),
        ("'smtp://mail.example.com'", "quotation marks"),
        ("smtp://mail\u200b.example.com", "U+200B"),
        others=SENDER,
    ),
    *rows("SMTP_URL_FILE", ("/nowhere/url", "cannot be read"), ("/", "cannot be read"), others=SENDER),
    *rows(
        "MAIL_FROM",
        ("noreply", "noreply@example.com"),
        ("Example", "noreply@example.com"),
        ("Example noreply@example.com", "noreply@example.com"),
        ("a@example.com, b@example.com", "noreply@example.com"),
        ("Example <noreply@example.com> now", "noreply@example.com"),
        ("mailto:noreply@example.com", "noreply@example.com"),
        ("noreply@b\u00fccher.example", "noreply@example.com"),
        ("noreply@-example.com", "noreply@example.com"),
        ("x" * 65 + "@example.com", "noreply@example.com"),
        ("x" * 65 + " <noreply@example.com>", "at most 64"),
        ('"Example" <noreply@example.com>', "without quotation marks"),
        ("Example\nBcc: <noreply@example.com>", "printable"),
    ),
    *rows(
        "PAGE_URL",
        ("id.example.com/account", "like https://"),
        ("/account", "like https://"),
        ("https://id.example.com/account?x=1", "query"),
        ("https://id.example.com/account#x", "like https://"),
        ("https://user:word@id.example.com", "without them"),
        ("javascript:alert(1)", "like https://"),
        ("https://id.example.com/../x", ". or .."),
        ("https://id example.com", "white space"),
    ),
    *rows("TEMPLATES_DIR", ("~/templates", "whole path"), ("~", "whole path"), ("tem\u200bplates", "U+200B")),
    *rows(
        "LOCALE",
        ("en_US", "pt-BR"),
        ("en-US.UTF-8", "pt-BR"),
        ("e", "pt-BR"),
        ("en,de", "pt-BR"),
        ("Fran\u00e7ais", "pt-BR"),
        ("en-" + "x" * 33, "pt-BR"),
    ),
    *rows(
        "DELETION_DELAY",
        ("-1", "0 to 7776000"),
        ("91d", "7776000"),
        ("two weeks", "like 14d"),
        ("1.5d", "like 14d"),
        ("off", "like 14d"),
    ),
    *rows("SIGNUP", ("off", "closed"), ("true", "open"), ("Open", "open"), ("invite", "invited"), ("none", "closed")),
    *rows("ADMIN_API", ("true", "on"), ("1", "on"), ("ON", "on"), ("no", "off"), ("/admin", "on")),
    *rows(
        "CLAIMS",
        ("sub", "uses itself"),
        ("tenant, roles", "uses itself"),
        ("email", "registered claim"),
        ("Tenant", "a-z"),
        ("tenant;plan", "a-z"),
        ("true", "like tenant"),
        ("all", "like tenant"),
        ("off", "like tenant"),
        ("ten\u200bant", "U+200B"),
    ),
    *rows("PASSWORD_MIN_LENGTH", ("7", "8"), ("129", "128"), ("eight", "whole number")),
    *rows("PASSWORD_MIN_LENGTH_ALONE", ("7", "8"), ("129", "128"), ("fifteen", "whole number")),
    *rows(
        "BREACHED_PASSWORDS",
        ("on", "write off"),
        ("none", "write off"),
        ("~/leaked.list", "the whole path"),
        ("ftp://ranges.example.com", "like https://"),
        ("https://user:word@ranges.example.com", "without them"),
        ("https://ranges.example.com/range?key=1", "no query"),
        ("https://ranges example.com/", "white space"),
        ('"off"', "quotation marks"),
    ),
    *rows("PASSWORD_MIN_LENGTH_ALONE", ("19", "20 or more"), others={"PASSWORD_MIN_LENGTH": "20"}),
    *rows(
        "TRUSTED_PROXIES",
        ("proxy.example.com", "10.0.0.0/8"),
        ("10.0.0.0/33", "10.0.0.0/8"),
        ("*", "10.0.0.0/8"),
        ("10.0.0.0/8;192.168.0.0/16", "10.0.0.0/8"),
        ("10.0.0.1-10.0.0.9", "10.0.0.0/8"),
        ("all", "10.0.0.0/8"),
        ("none", "unset it"),
        ("off", "unset it"),
        ("10.0.0.1:8080", "10.0.0.0/8"),
        ("10.0.0.1, ::g", "10.0.0.0/8"),
        ("10.0.0.1\u200b0", "U+200B"),
    ),
    *rows("HASH_CONCURRENCY", ("0", "1"), ("257", "256"), ("all", "whole number")),
    *rows("HASH_QUEUE", ("-1", "0"), ("4097", "4096"), ("none", "whole number")),
    *rows("LIMIT_SIGNUP", ("5", "5/15m"), ("none", "5/15m"), ("0/1h", "5/15m"), ("unlimited", "5/15m")),
    *rows("LIMIT_LOGIN", ("5/15", "5/15m"), ("5 per 15m", "5/15m"), ("-5/15m", "5/15m"), ("5/15M", "5/15m")),
    *rows("LIMIT_LOGIN_ADDRESS", ("60/5min", "5/15m"), ("60", "5/15m")),
    *rows("LIMIT_LOGIN_USERNAME", ("100/1w", "5/15m"), ("false", "5/15m")),
    *rows(
        "OTLP_ENDPOINT",
        ("collector:4318", "like https://"),
        ("grpc://collector:4317", "like https://"),
        ("http://collector:4318?x=1", "query"),
        ("http://u:p@collector:4318", "without them"),
        ("http://collector:port", "like https://"),
    ),
    *rows("LOG_FORMAT", ("JSON", "json"), ("logfmt", "json"), ("text", "console")),
    *rows("DOCS", ("maybe", "true or false"), ("2", "true or false"), ("enabled", "true or false")),
    *rows("ATTACK_PROOF", ("x" * 31, "openssl rand -hex 32"), ("short", "openssl rand -hex 32")),
    *rows(
        "DATABASE_URL_FILE",
        ("/nowhere/url", "cannot be read"),
        ("/", "cannot be read"),
        others={"MASTER_SECRETS": SECRET},
    ),
    *rows("REDIS_URL_FILE", ("/nowhere/url", "cannot be read: No such file"), ("/" + "x" * 5000, "name too long")),
    *rows("WEBHOOK_SECRET_FILE", ("/etc/hostname/secret", "cannot be read: Not a directory")),
    *rows("ATTACK_PROOF_FILE", ("/etc", "cannot be read: Is a directory")),
    *rows("SERVICE_HOST", ("10.0.0.1", "enableServiceLinks: false")),
    *rows("PORT_8000_TCP_ADDR", ("10.0.0.1", "enableServiceLinks: false")),
    *rows("REDIS_SERVICE_PORT", ("6379", "enableServiceLinks: false")),
    *rows("REDIS_PORT", ("tcp://10.0.0.1:6379", "enableServiceLinks: false")),
    *rows("POSTGRES_PORT_5432_TCP", ("tcp://10.0.0.1:5432", "enableServiceLinks: false")),
    *rows("DATABSE_URL", ("postgresql://db/keyturn", "settings.md")),
    *rows("HOSTS", ("127.0.0.1", "settings.md")),
]

ALIKE = [
    ("ISSUER", "  https://auth.example.com\n", "https://auth.example.com"),
    ("ISSUER", "\ufeffhttps://auth.example.com\u200b", "https://auth.example.com"),
    ("ISSUER", "https://auth.example.com:8443/tenants/one\t", "https://auth.example.com:8443/tenants/one"),
    ("ISSUER", "http://[::1]:8000", "http://[::1]:8000"),
    ("AUDIENCE", " api ", "api"),
    ("AUDIENCE", "https://api.example.com/v1?x=1#y", "https://api.example.com/v1?x=1#y"),
    ("TOTP_ISSUER", "\u00a0Zo\u00eb & Sons\n", "Zo\u00eb & Sons"),
    ("ISSUER", "https://auth.example.com/a%20b/.well/..x", "https://auth.example.com/a%20b/.well/..x"),
    ("WEBHOOK_URL", "https://hook_1.example/x?a=%2F..", "https://hook_1.example/x?a=%2F.."),
    ("WEBHOOK_URL", "https://receiver.example.com/hook?tenant=1\n", "https://receiver.example.com/hook?tenant=1"),
    ("OTLP_ENDPOINT", " http://collector:4318/", "http://collector:4318/"),
    ("TRUSTED_PROXIES", "10.0.0.0/8,\n 2001:db8::/32\n", ("10.0.0.0/8", "2001:db8::/32")),
    ("PORT", " 8001\n", 8001),
    ("LOG_FORMAT", "console\n", "console"),
]


@pytest.fixture(autouse=True)
def no_other_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unset all settings, and run in an empty folder."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_table_has_at_least_120_values() -> None:
    """The table must stay large enough to cover every setting."""
    assert len({row[:2] for row in WRONG}) >= 120


@pytest.mark.parametrize("command", ["serve", "doctor"])
@pytest.mark.parametrize("row", WRONG, ids=[f"{row[0]}={ascii(row[1])[1:40]}" for row in WRONG])
def test_a_wrong_value_is_refused_in_one_sentence(
    command: str,
    row: Row,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """`serve` does not start and `doctor` does not crash; the sentence has the setting's name and the remedy."""
    name, value, remedy, others = row
    for setting, text in ({"PORT": "0", name: value} | others).items():
        monkeypatch.setenv(PREFIX + setting, text)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keyturn.sqlite3").touch()
    status = main([command], serve=lambda *_a, **_k: pytest.fail("it started"))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    if command == "doctor" and status == 1:  # one finding of several: the other checks run
        assert name.startswith("MASTER_SECRETS")
        assert "" == err
        (sentence,) = [line for line in out.splitlines() if PREFIX + name in line]
        assert sentence.startswith("WRONG ")
        assert remedy in sentence
        return
    assert (2, "") == (status, out)
    assert err.startswith("keyturn: ")
    assert 1 == err.count("\n")
    assert err.endswith((".\n", ": openssl rand -hex 32\n"))  # nothing follows a command that is copied
    assert PREFIX + name in err
    assert remedy in err


@pytest.mark.parametrize(("name", "value", "meant"), ALIKE)
def test_text_around_a_value_is_removed(name: str, value: str, meant: object) -> None:
    """White space and invisible characters that an editor or a secret's file added are removed."""
    others = {PREFIX + key: text for key, text in WEBHOOK.items()}
    settings = read_settings({**others, PREFIX + name: value})
    assert meant == getattr(settings, name.lower())
