"""`KEYTURN_REDIS_URL`: the meaning of each form; each mistake is refused in one sentence without a secret."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.environment import read_settings
from service.errors import ConfigurationError
from service.redis_url import Credentials, RedisAddress, TlsOptions, read_redis_url
from service.storage.ephemeral_redis import connect
from tests.harness.redis_servers import make_certificates
from tests.harness.url_options import rest_of_a_password

SECRET = "hunter2-hunter2"
ALICE = Credentials("alice", "s:e/c@r#e?t")
TLS = TlsOptions()

READ: list[tuple[str, RedisAddress]] = [
    ("redis://redis", RedisAddress("server", (("redis", 6379),))),
    ("redis://redis:6380/0", RedisAddress("server", (("redis", 6380),))),
    ("redis://redis/", RedisAddress("server", (("redis", 6379),))),
    ("redis://", RedisAddress("server", (("localhost", 6379),))),
    ("redis:///2", RedisAddress("server", (("localhost", 6379),), database=2)),
    ("REDIS://my_redis.internal./15", RedisAddress("server", (("my_redis.internal.", 6379),), database=15)),
    ("redis://redis?db=3", RedisAddress("server", (("redis", 6379),), database=3)),
    ("redis://redis/3?db=3", RedisAddress("server", (("redis", 6379),), database=3)),
    ("redis://[::1]:6380/1", RedisAddress("server", (("::1", 6380),), database=1)),
    ("redis://[2001:db8::7]", RedisAddress("server", (("2001:db8::7", 6379),))),
    (
        "redis://alice:s%3Ae%2Fc%40r%23e%3Ft@redis/0",
        RedisAddress("server", (("redis", 6379),), credentials=ALICE),
    ),
    ("redis://alice:s:e%2Fc@r%23e%3Ft@redis/0", RedisAddress("server", (("redis", 6379),), credentials=ALICE)),
    ("redis://:word@redis", RedisAddress("server", (("redis", 6379),), credentials=Credentials(None, "word"))),
    (
        "redis://redis?username=u&password=a+b%20c",
        RedisAddress("server", (("redis", 6379),), credentials=Credentials("u", "a+b c")),
    ),
    ("redis://redis?protocol=2", RedisAddress("server", (("redis", 6379),))),
    ("redis://redis?protocol=3", RedisAddress("server", (("redis", 6379),), protocol=3)),
    ("rediss://redis:6380/1", RedisAddress("server", (("redis", 6380),), database=1, tls=TLS)),
    (
        "rediss://redis?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_check_hostname=false",
        RedisAddress("server", (("redis", 6379),), tls=TlsOptions("/ca.pem", "/c.pem", "/k.pem", "required", False)),
    ),
    (
        "rediss://redis?ssl_cert_reqs=none",
        RedisAddress("server", (("redis", 6379),), tls=TlsOptions(cert_reqs="none", is_hostname_checked=False)),
    ),
    ("unix:///run/redis.sock", RedisAddress("socket", path="/run/redis.sock")),
    ("unix:///" + "x" * 106, RedisAddress("socket", path="/" + "x" * 106)),
    (
        "unix://:word@/run/my%20redis.sock?db=4",
        RedisAddress("socket", path="/run/my redis.sock", database=4, credentials=Credentials(None, "word")),
    ),
    (
        "redis+sentinel://one:26379,two:26380/keyturn",
        RedisAddress("sentinel", (("one", 26379), ("two", 26380)), master="keyturn"),
    ),
    ("redis+sentinel://one:26379", RedisAddress("sentinel", (("one", 26379),), master="mymaster")),
    ("redis+sentinel://one:26379/", RedisAddress("sentinel", (("one", 26379),), master="mymaster")),
    ("redis+sentinel://[::1]:1/m/5", RedisAddress("sentinel", (("::1", 1),), master="m", database=5)),
    ("redis+sentinel://one:1/m?db=5", RedisAddress("sentinel", (("one", 1),), master="m", database=5)),
    (
        "redis+sentinel://u:p@one:1/m",
        RedisAddress(
            "sentinel",
            (("one", 1),),
            master="m",
            credentials=Credentials("u", "p"),
            sentinel_credentials=Credentials("u", "p"),
        ),
    ),
    (
        "rediss+sentinel://u:p@one:1/m/1?sentinel_username=s&sentinel_password=q",
        RedisAddress(
            "sentinel",
            (("one", 1),),
            master="m",
            database=1,
            credentials=Credentials("u", "p"),
            sentinel_credentials=Credentials("s", "q"),
            tls=TLS,
        ),
    ),
    (
        "redis+sentinel://:p@one:1/m?sentinel_password=",
        RedisAddress("sentinel", (("one", 1),), master="m", credentials=Credentials(None, "p")),
    ),
    ("redis+cluster://a:1,b:2", RedisAddress("cluster", (("a", 1), ("b", 2)))),
    ("redis+cluster://a:1/0", RedisAddress("cluster", (("a", 1),))),
    ("rediss+cluster://[::1]:1,[::1]:2", RedisAddress("cluster", (("::1", 1), ("::1", 2)), tls=TLS)),
]


@pytest.mark.parametrize(("url", "address"), READ, ids=[url for url, _ in READ])
def test_a_url_is_read(url: str, address: RedisAddress) -> None:
    """Each form has one meaning: hosts, database, credentials of Redis and of its Sentinels, TLS."""
    assert address == read_redis_url(url)


REFUSED: list[tuple[str, str]] = [
    # Unknown options
    ("redis://redis/0?family=6", "the option family"),
    ("redis://redis/0?pool_size=5", "the option pool_size"),
    ("redis://redis/0?nonsense=1", "the option nonsense"),
    ("redis+sentinel://one:1/m?nonsense=1", "the option nonsense"),
    ("redis+cluster://one:1?nonsense=1", "the option nonsense"),
    ("unix:///run/redis.sock?nonsense=1", "the option nonsense"),
    ("redis://redis/0?DB=1", "the option DB"),
    ("redis://redis/0?client_name=x", "the option client_name"),
    ("redis://redis/0?ssl_ciphers=x", "the option ssl_ciphers"),
    ("redis://redis/0?a%20b=1", "an option whose name is not a word"),
    # Options that the service decides
    ("redis://redis/0?retry=3", "would count an attempt twice"),
    ("redis://redis/0?retry_on_timeout=true", "would count an attempt twice"),
    ("redis://redis/0?socket_timeout=5", "waits 0.2 s"),
    ("redis://redis/0?socket_connect_timeout=5", "waits 0.2 s"),
    ("redis://redis/0?max_connections=50", "16 connections"),
    ("redis://redis/0?decode_responses=true", "the option decode_responses"),
    ("redis://redis/0?ssl=true", "write rediss://"),
    ("redis://redis/0?tls=true", "write rediss://"),
    ("redis+sentinel://one:1/m?socket_timeout=5", "waits 0.2 s"),
    # Options without a meaning or a value in that form
    ("redis://redis/0?ssl_cert_reqs=none", "ssl_cert_reqs, which needs TLS"),
    ("redis://redis/0?ssl_ca_certs=/ca.pem", "ssl_ca_certs, which needs TLS"),
    ("redis+sentinel://one:1/m?ssl_certfile=/c.pem", "ssl_certfile, which needs TLS"),
    ("redis+cluster://one:1?ssl_keyfile=/k.pem", "ssl_keyfile, which needs TLS"),
    ("unix:///run/redis.sock?ssl_check_hostname=true", "ssl_check_hostname, which needs TLS"),
    ("redis://redis/0?sentinel_password=x", "sentinel_password, which only a URL of Sentinels may have"),
    ("redis+cluster://one:1?sentinel_username=x", "sentinel_username, which only a URL of Sentinels may have"),
    ("redis://redis/0?db=", "the option db without a value"),
    ("redis://redis/0?db", "the option db without a value"),
    ("redis://redis?password=", "the option password without a value"),
    ("redis://redis?db=1&db=2", "the option db twice"),
    ("redis://redis?protocol=2&protocol=2", "the option protocol twice"),
    # Values
    ("redis://redis/0?protocol=abc", "protocol, which must be 2 or 3"),
    ("redis://redis/0?protocol=1", "protocol, which must be 2 or 3"),
    ("redis://redis?db=abc", "db, which must be a whole number"),
    ("redis://redis?db=-1", "db, which must be a whole number"),
    ("redis://redis?db=\u0661", "db, which must be a whole number"),
    ("rediss://redis?ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs, which must be none, optional or required"),
    ("rediss://redis?ssl_check_hostname=maybe", "ssl_check_hostname, which must be true or false"),
    ("rediss://redis?ssl_keyfile=/k.pem", "ssl_keyfile without ssl_certfile"),
    # The database
    ("redis://redis/abc", "a database that is not a number"),
    ("redis://redis/0/1", "a database that is not a number"),
    ("redis://redis/-1", "a database that is not a number"),
    ("redis://redis/1?db=2", "one database in its path and another"),
    ("redis+sentinel://one:1/m/abc", "a database that is not a number"),
    ("redis+sentinel://one:1/m/1?db=2", "one database in its path and another"),
    ("redis+cluster://one:1/1", "only database 0"),
    ("redis+cluster://one:1?db=1", "only database 0"),
    ("redis+cluster://one:1/abc", "a database that is not a number"),
    # Hosts and ports
    ("redis://redis:port/0", "a port that is not a number"),
    ("redis://redis:0/0", "a port that is not a number"),
    ("redis://redis:65536/0", "a port that is not a number"),
    ("redis://redis:6379:6379/0", "an IPv6 address in brackets"),
    ("redis://::1:6379/0", "an IPv6 address in brackets"),
    ("redis://2001:db8::7/0", "an IPv6 address in brackets"),
    ("redis://[redis]:6379/0", "brackets around something"),
    ("redis://[::1/0", "IPv6 address in brackets"),
    ("redis://re dis/0", "a character that no host name has"),
    ("redis://one:1,two:2/0", "several hosts"),
    ("redis+sentinel://one/m", "a port after every host"),
    ("redis+sentinel://one:26379,two/m", "a port after every host"),
    ("redis+sentinel://one:26379,/m", "a host that is empty"),
    ("redis+sentinel:///m", "a host that is empty"),
    ("redis+cluster://", "a host that is empty"),
    ("redis+cluster://::1:7000", "an IPv6 address in brackets"),
    ("redis://a..b:1/0", "two dots in a row"),
    (f"redis://{'a' * 64}/0", "more than 63 characters"),
    ("redis+sentinel://one:1,a..b:1/m", "two dots in a row"),
    ("redis+cluster://a..:1", "two dots in a row"),
    # Sockets
    ("unix:///" + "x" * 107, "longer than 107 bytes"),
    ("unix:///" + "%C3%A9" * 54, "longer than 107 bytes"),
    ("unix://run/redis.sock", "three slashes"),
    ("unix://", "three slashes"),
    ("unix:///", "three slashes"),
    ("unix:///run/redis%00.sock", "three slashes"),
    # Schemes
    ("redis:6379", "begin with one of: redis://"),
    ("tcp://10.0.0.1:6379", "begin with one of: redis://"),
    ("http://redis", "begin with one of: redis://"),
    ("sentinel://one:26379/m", "begin with one of: redis://"),
    ("redis", "begin with one of: redis://"),
    # Characters with a meaning in a URL
    ("redis://redis/0#fragment", "%23 for #"),
    ("redis://redis/0?password=a@b", "%40 for @"),
    ("redis://re\ndis/0", "a line break"),
    ("redis://:a%ffb@redis/0", "not UTF-8"),
    ("redis://redis?password=%ff", "not UTF-8"),
    ("redis://u:p@redis?password=q", "before the host and in an option"),
]


@pytest.mark.parametrize(("url", "words"), REFUSED, ids=[repr(url) for url, _ in REFUSED])
def test_an_invalid_url_stops_the_start(url: str, words: str) -> None:
    """One sentence names the setting, the mistake, and the option if it is one."""
    with pytest.raises(ConfigurationError) as refusal:
        read_settings({"KEYTURN_REDIS_URL": url})
    sentence = str(refusal.value)
    assert words in sentence
    assert re.fullmatch(r"KEYTURN_REDIS_URL [^\n]+[^.\s]\.", sentence), sentence
    with pytest.raises(ConfigurationError) as refusal:
        connect(url)
    assert sentence == str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/x@redis/0",
        f"redis://:{SECRET}?x@redis/0",
        f"redis://:{SECRET}#x@redis/0",
        f"redis://:12?{SECRET}=x@redis/0",
        f"redis://{SECRET}:x:y/0",
        f"redis://{SECRET}[@redis]/0",
        f"redis://:{SECRET}@redis:port/0",
        f"redis://:{SECRET}@one:1,two:2/0",
        f"redis://:{SECRET}@redis/abc",
        f"redis://:{SECRET}@redis/0?password={SECRET}",
        f"redis://redis/{SECRET}",
        f"redis+sentinel://:{SECRET}@one/m?sentinel_password={SECRET}",
        f"redis+cluster://:{SECRET}@one:1/1",
        f"http://:{SECRET}@redis",
        f"redis:{SECRET}@redis",
        f"rediss://redis?ssl_cert_reqs={SECRET}",
        f"redis://redis?password={SECRET}&password={SECRET}",
    ],
)
def test_a_refusal_repeats_no_password(url: str) -> None:
    """It repeats no part of one either: a character that is not percent-encoded moves it elsewhere in the URL."""
    with pytest.raises(ValueError, match="KEYTURN_REDIS_URL") as refusal:
        read_redis_url(url)
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_an_option_after_a_password_is_not_named() -> None:
    """It may be the rest of a password with an & in it. Its position and the remedy are named."""
    with pytest.raises(ValueError, match="KEYTURN_REDIS_URL") as refusal:
        read_redis_url(f"redis://127.0.0.1:6379/0?password=hunter&{SECRET}")
    assert "an option at position 2 of its query" in str(refusal.value)
    assert "%26" in str(refusal.value)
    with pytest.raises(ValueError, match="the option nonsense") as refusal:
        read_redis_url(f"redis://127.0.0.1:6379/0?nonsense=1&password=hunter&{SECRET}")
    assert SECRET not in str(refusal.value)
    with pytest.raises(ValueError, match="the option socket_timeout, which cannot be set"):
        read_redis_url("redis://127.0.0.1:6379/0?password=hunter&socket_timeout=5")


KNOWN_NAMES = ["db", "protocol", "username", "password", "sentinel_password", "ssl_cert_reqs", "ssl_check_hostname",
               "ssl_keyfile", "retry", "ssl"]  # fmt: skip


@given(
    scheme=st.sampled_from(
        ["redis://one:1/0", "rediss://one:1/0", "redis+sentinel://one:1/m", "redis+cluster://one:1"]
    ),
    option=st.sampled_from(["password", "sentinel_password"]),
    rest=rest_of_a_password(KNOWN_NAMES),
)
def test_no_text_after_a_password_is_repeated(scheme: str, option: str, rest: str) -> None:
    """Whatever stands after an & in a password, no error contains it. Each of these texts begins with Zq."""
    sentence = ""
    try:
        read_redis_url(f"{scheme}?{option}=hunter&{rest}")
    except ValueError as error:
        sentence = str(error)
    assert "Zq" not in sentence


def test_an_address_shows_no_password() -> None:
    """Its text in a log line or a traceback contains no password."""
    address = read_redis_url(f"redis+sentinel://u:{SECRET}@one:1/m?sentinel_password={SECRET}")
    assert SECRET not in repr(address) + str(address)


async def test_an_unusable_certificate_is_named(tmp_path: Path) -> None:
    """A missing file, a folder, no PEM or a key of another certificate: the start fails with the option's name."""
    certificates = make_certificates(tmp_path)
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other")
    (tmp_path / "text.pem").write_text("no certificate")
    text, missing = tmp_path / "text.pem", tmp_path / "gone.pem"
    wrong = [
        (f"ssl_ca_certs={missing}", f"the option ssl_ca_certs, and its file {missing} cannot be read: No such file"),
        (f"ssl_ca_certs={text}/", f"the option ssl_ca_certs, and its file {text}/ cannot be read: Not a directory"),
        (f"ssl_certfile={certificates.certificate}/", "the option ssl_certfile, and its file"),
        (
            f"ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}/",
            f"the option ssl_keyfile, and its file {certificates.key}/ cannot be read: Not a directory",
        ),
        (f"ssl_ca_certs=/{'x' * 5000}", "cannot be read: File name too long"),
        (f"ssl_ca_certs={tmp_path}", f"its file {tmp_path} cannot be read: Is a directory"),
        (f"ssl_ca_certs={text}", f"the option ssl_ca_certs, and its file {text} has no PEM certificate"),
        (f"ssl_certfile={missing}", f"the option ssl_certfile, and its file {missing} cannot be read"),
        (
            f"ssl_certfile={certificates.certificate}&ssl_keyfile={missing}",
            f"ssl_keyfile, and its file {missing} cannot be read",
        ),
        (f"ssl_certfile={certificates.certificate}", "cannot be used with the key in the same file"),
        (
            f"ssl_certfile={certificates.certificate}&ssl_keyfile={other.key}",
            f"cannot be used with the key in {other.key}",
        ),
        (f"ssl_certfile={text}&ssl_keyfile={certificates.key}", "the option ssl_certfile"),
    ]
    for scheme, target in (("rediss", "one:1"), ("rediss+sentinel", "one:1/m"), ("rediss+cluster", "one:1")):
        for options, words in wrong:
            with pytest.raises(ConfigurationError) as refusal:
                connect(f"{scheme}://:{SECRET}@{target}?{options}")
            assert words in str(refusal.value)
            assert "\n" not in str(refusal.value)
            assert SECRET not in str(refusal.value)
        right = f"ssl_ca_certs={certificates.authority}&ssl_certfile={certificates.certificate}"
        right += f"&ssl_keyfile={certificates.key}"
        await connect(f"{scheme}://{target}?{right}").close()
