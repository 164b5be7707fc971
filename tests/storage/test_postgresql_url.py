"""`KEYTURN_DATABASE_URL`: each option of libpq is honoured, dropped or refused; no error shows a secret."""

import os
import ssl
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ConfigurationError
from service.storage.postgresql_url import DEFAULT_HOSTS, Target, read_postgresql_url
from tests.harness.redis_servers import make_certificates
from tests.harness.url_options import rest_of_a_password

BASE = "postgresql://u:pw@db/name"
PASSWORD = "hunter2hunter2"


def read(url: str, **environment: str) -> Target:
    return read_postgresql_url(url, environment)


def refusal(url: str, **environment: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read(url, **environment)
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "hosts", "user", "password", "database"),
    [
        ("postgresql://u:p@db/name", [("db", 5432)], "u", "p", "name"),
        ("postgres://u:p@db:6432/name", [("db", 6432)], "u", "p", "name"),
        ("  postgresql://u:p@db/name\n", [("db", 5432)], "u", "p", "name"),
        ("postgresql://u:p@db", [("db", 5432)], "u", "p", "u"),
        ("postgresql://u:p@db/", [("db", 5432)], "u", "p", "u"),
        ("postgresql://u@db/name?password=p", [("db", 5432)], "u", "p", "name"),
        ("postgresql://u:p%40%2F%3F%23%25@db/n%2Fm", [("db", 5432)], "u", "p@/?#%", "n/m"),
        ("postgresql://u:p@p@db/name", [("db", 5432)], "u", "p@p", "name"),
        ("postgresql://u:a:b@db/name", [("db", 5432)], "u", "a:b", "name"),
        ("postgresql://u:p@a,b:6432,c/name", [("a", 5432), ("b", 6432), ("c", 5432)], "u", "p", "name"),
        ("postgresql://u:p@a,b/name?port=1,2", [("a", 1), ("b", 2)], "u", "p", "name"),
        ("postgresql://u:p@[2001:db8::7]:6432/name", [("2001:db8::7", 6432)], "u", "p", "name"),
        ("postgresql://u:p@[::1]/name", [("::1", 5432)], "u", "p", "name"),
        ("postgresql:///name?host=/run/postgresql&user=u", [("/run/postgresql", 5432)], "u", "", "name"),
        ("postgresql://u@%2Frun%2Fpostgresql:6432/name", [("/run/postgresql", 6432)], "u", "", "name"),
        ("postgresql://?host=db&port=6432&user=u&password=p&dbname=name", [("db", 6432)], "u", "p", "name"),
        ("postgresql://u:p@/name?hostaddr=10.0.0.7", [("10.0.0.7", 5432)], "u", "p", "name"),
        ("postgresql://u:p@db/?database=name", [("db", 5432)], "u", "p", "name"),
    ],
)
def test_every_form_of_the_url_is_read(
    url: str, hosts: list[tuple[str, int]], user: str, password: str, database: str
) -> None:
    """Hosts, ports, sockets, IPv6, quoting and the query are read as libpq reads them."""
    target = read(url)
    assert (hosts, user, password, database) == (list(target.hosts), target.user, target.password, target.database)


def test_without_a_host_the_default_sockets_are_tried() -> None:
    """libpq and the driver do so, too; the default user is that of the process."""
    target = read("postgresql:///name")
    assert DEFAULT_HOSTS == tuple(host for host, _ in target.hosts)
    assert target.user


@pytest.mark.parametrize(
    "option",
    [
        "keepalives=1",
        "keepalives_idle=30",
        "keepalives_interval=5",
        "keepalives_count=3",
        "tcp_user_timeout=1000",
        "gssencmode=disable",
        "gssencmode=prefer",
        "channel_binding=prefer",
        "channel_binding=disable",
        "sslcompression=0",
        "sslsni=1",
        "krbsrvname=postgres",
        "gsslib=gssapi",
        "client_encoding=utf8",
        "client_encoding=UTF-8",
        "replication=false",
        "sslmode=",
        "load_balance_hosts=disable",
    ],
)
def test_options_without_a_meaning_for_the_driver_are_dropped(option: str) -> None:
    """URLs of providers contain them, and they demand nothing that the driver does not do already."""
    assert read(BASE) == read(f"{BASE}?{option}")


def test_other_options_reach_the_server_or_the_driver() -> None:
    """They are names, settings of the session, the kind of server, and the timeout of the handshake."""
    target = read(
        f"{BASE}?application_name=auth&search_path=keyturn&statement_timeout=500&options=-cwork_mem%3D8MB"
        "&target_session_attrs=read-write&load_balance_hosts=random&connect_timeout=7"
    )
    assert {
        "application_name": "auth",
        "search_path": "keyturn",
        "statement_timeout": "500",
        "options": "-cwork_mem=8MB",
    } == target.server_settings
    assert ("read-write", True, 7) == (target.target_session_attrs, target.shuffles_hosts, target.connect_timeout)
    assert "keyturn" == read(BASE).server_settings["application_name"]
    assert "x" == read(f"{BASE}?fallback_application_name=x").server_settings["application_name"]
    for text, seconds in (("0", None), ("-1", None), ("1", 2), ("600", 60)):
        assert seconds == read(f"{BASE}?connect_timeout={text}").connect_timeout


@pytest.mark.parametrize(
    ("option", "name", "remedy"),
    [
        ("pgbouncer=true", "pgbouncer", "KEYTURN_DATABASE_PREPARED_STATEMENTS=off"),
        ("statement_cache_size=0", "statement_cache_size", "KEYTURN_DATABASE_PREPARED_STATEMENTS=off"),
        ("prepareThreshold=0", "prepareThreshold", "KEYTURN_DATABASE_PREPARED_STATEMENTS=off"),
        ("schema=auth", "schema", "options=-csearch_path%3DNAME"),
        ("currentSchema=auth", "currentSchema", "options=-csearch_path%3DNAME"),
        ("connection_limit=5", "connection_limit", "at most 10 connections"),
        ("pool_size=5", "pool_size", "at most 10 connections"),
        ("pool_timeout=5", "pool_timeout", "0.8 s"),
        ("ssl=true", "ssl", "sslmode=require"),
        ("sslaccept=strict", "sslaccept", "sslmode=require"),
        ("sslmod=require", "sslmod", "did you mean sslmode?"),
        ("nonsense=1", "nonsense", "remove it"),
        ("sslmode=on", "sslmode", "verify-full"),
        ("sslmode=verify_full", "sslmode", "verify-full"),
        ("channel_binding=require", "channel_binding", "sslmode=verify-full"),
        ("gssencmode=require", "gssencmode", "sslmode=verify-full"),
        ("sslsni=0", "sslsni", "remove it"),
        ("sslcertmode=require", "sslcertmode", "remove it"),
        ("replication=database", "replication", "remove it"),
        ("require_auth=scram-sha-256", "require_auth", "pg_hba.conf"),
        ("requirepeer=postgres", "requirepeer", "remove it"),
        ("service=mine", "service", "into the URL"),
        ("servicefile=/x", "servicefile", "into the URL"),
        ("sslkeylogfile=/x", "sslkeylogfile", "remove it"),
        ("target_session_attrs=standby", "target_session_attrs", "read-write"),
        ("target_session_attrs=rw", "target_session_attrs", "read-write"),
        ("load_balance_hosts=yes", "load_balance_hosts", "random"),
        ("sslnegotiation=fast", "sslnegotiation", "direct"),
        ("sslnegotiation=direct", "sslnegotiation", "sslmode=require"),
        ("client_encoding=latin1", "client_encoding", "UTF8"),
        ("connect_timeout=soon", "connect_timeout", "seconds"),
        ("ssl_min_protocol_version=TLSv9", "ssl_min_protocol_version", "TLSv1.2"),
        ("ssl_max_protocol_version=SSLv3", "ssl_max_protocol_version", "TLSv1.3"),
        ("sslmode=verify-full", "sslmode=verify-full", "sslrootcert"),
        ("sslmode=verify-ca", "sslmode=verify-ca", "sslrootcert"),
        ("sslrootcert=system&sslmode=require", "sslrootcert=system", "sslmode=verify-full"),
        ("sslrootcert=/no/such/file", "sslrootcert", "No such file"),
        ("sslcrl=/no/such/file", "sslcrl", "No such file"),
        ("sslcrldir=/no/such/folder", "sslcrldir", "no folder"),
        ("sslcert=/no/such/file&sslkey=/no/such/key", "sslcert", "No such file"),
        ("sslkey=/no/such/key", "sslkey", "certificate"),
        ("passfile=/no/such/file", "passfile", "No such file"),
        ("hostaddr=10.0.0.7", "hostaddr", "remove one"),
        ("port=1,2", "2 ports", "one port"),
        ("port=abc", "port", "number"),
        ("port=99999", "port", "number"),
        ("sslmode", "query", "option=value"),
        ("application_name=a@b", "@", "%40"),
        ("application_name=%zz", "%", "%25"),
        ("application_name=%00", "%00", "does not accept"),
    ],
)
def test_an_unknown_option_is_refused_by_name(option: str, name: str, remedy: str) -> None:
    """One sentence names the option and what to write instead; options of other clients have their own remedy."""
    before = {"port=1,2": f"u:{PASSWORD}@a,b,c", "passfile=/no/such/file": "u@db"}.get(option, f"u:{PASSWORD}@db")
    sentence = refusal(f"postgresql://{before}/name?{option}")
    assert sentence.startswith("KEYTURN_DATABASE_URL: ")
    assert name in sentence
    assert remedy in sentence
    assert PASSWORD not in sentence


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:a/{PASSWORD}@db/name",
        f"postgresql://u:12/{PASSWORD}@db/name",
        f"postgresql://u:12?{PASSWORD}@db/name",
        f"postgresql://u:12?{PASSWORD}=1@db/name",
        f"postgresql://u:12#{PASSWORD}@db/name",
        f"postgresql://u:12%{PASSWORD}@db/name",
        f"postgresql://u:12 {PASSWORD}@db/name",
        f"postgresql://u:{PASSWORD}@db:{PASSWORD}/name",
        f"postgresql://u:{PASSWORD}@[::1/name",
        f"postgresql://u:{PASSWORD}@2001:db8::7/name",
        f"postgresql://u:{PASSWORD}@a,,b/name",
        f"postgresql://u:{PASSWORD}@db:0/name",
        f"postgresql://u:{PASSWORD}@db/name?sslmode={PASSWORD}!",
        f"postgresql://u:{PASSWORD}@db/a/b",
        f"postgresql://u:{PASSWORD}",
    ],
)
def test_an_invalid_url_is_refused_without_its_password(url: str) -> None:
    """Wherever a missing quote moved the password, the sentence does not contain it."""
    sentence = refusal(url)
    assert sentence.startswith("KEYTURN_DATABASE_URL: ")
    assert PASSWORD not in sentence
    assert PASSWORD not in repr(read(BASE.replace("pw", PASSWORD)))


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("a..b", "two dots in a row"),
        (".a", "two dots in a row"),
        ("a" * 64, "more than 63 characters"),
        ("d*b", "a character that no host name has"),
        ("stra\u00dfe.de", "xn-- form"),
        ("stra%C3%9Fe.de", "xn-- form"),
        ("db,a..b", "two dots in a row"),
        ("%2F" + "x" * 93, "longer than 107 bytes"),
    ],
)
def test_a_host_that_cannot_exist_is_refused(host: str, why: str) -> None:
    """The driver would report such a host at the first connection only, and encode other characters by IDNA 2003."""
    sentence = refusal(f"postgresql://u:{PASSWORD}@{host}/name")
    assert why in sentence
    assert PASSWORD not in sentence


def test_unusual_hosts_are_accepted() -> None:
    """Names of containers, a dot at the end, and the longest path of a socket."""
    for host in ("my_db-1.internal.", "a" * 63, "[fe80::1%25eth0]", "%2F" + "x" * 92):
        assert read(f"postgresql://u:p@{host}/name").hosts


@pytest.mark.parametrize("option", ["password", "sslpassword"])
def test_an_option_after_a_password_is_not_named(option: str) -> None:
    """It may be the rest of a password with an & in it. Its position and the remedy are named."""
    sentence = refusal(f"postgresql://u@db/name?{option}=hunter&{PASSWORD}=")
    assert "the option at position 2 of its query" in sentence
    assert "%26" in sentence
    assert PASSWORD not in sentence
    sentence = refusal(f"postgresql://u@db/name?{option}=hunter&sslmode={PASSWORD}")
    assert "sslmode cannot be this" in sentence
    sentence = refusal(f"postgresql://u@db/name?nonsense=1&{option}=hunter&{PASSWORD}=")
    assert "the option nonsense" in sentence
    assert "another client's" in refusal(f"postgresql://u@db/name?{option}=hunter&pgbouncer=true")


KNOWN_NAMES = ["sslmode", "port", "connect_timeout", "target_session_attrs", "sslnegotiation", "client_encoding",
               "ssl_min_protocol_version", "service", "pgbouncer", "sslmod", "password", "gssencmode"]  # fmt: skip


@given(
    option=st.sampled_from(["password", "sslpassword"]),
    rest=rest_of_a_password(KNOWN_NAMES),
)
def test_no_text_after_a_password_is_repeated(option: str, rest: str) -> None:
    """Whatever stands after an & in a password, no error contains it. Each of these texts begins with Zq.

    The paths of files are an exception: an error names a file that cannot be read.
    """
    sentence = ""
    try:
        read(f"postgresql://u@db/name?{option}=hunter&{rest}")
    except ConfigurationError as error:
        sentence = str(error)
    assert "Zq" not in sentence


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("PGHOST", "postgresql:///name?user=u&password=p"),
        ("PGPORT", "postgresql://u:p@db/name"),
        ("PGUSER", "postgresql://db/name?password=p"),
        ("PGPASSWORD", "postgresql://u@db/name"),
        ("PGPASSFILE", "postgresql://u@db/name"),
        ("PGDATABASE", "postgresql://u:p@db"),
        ("PGSSLMODE", BASE),
        ("PGSSLROOTCERT", BASE),
        ("PGTARGETSESSIONATTRS", BASE),
    ],
)
def test_a_variable_of_libpq_is_refused_unless_the_url_decides(variable: str, url: str) -> None:
    """If the URL lacks the option, the error names the variable and the option; otherwise the URL applies."""
    sentence = refusal(url, **{variable: PASSWORD})
    assert variable in sentence
    assert "unset" in sentence
    assert PASSWORD not in sentence
    whole = "postgresql://u:p@db:5432/name?sslmode=verify-full&sslrootcert=system&target_session_attrs=any"
    assert ("db", 5432) == read(whole, **{variable: "x"}).hosts[0]


def test_variables_that_the_driver_never_read_are_ignored() -> None:
    """`PGAPPNAME`, `PGCONNECT_TIMEOUT` and the like are for other programs."""
    assert read(BASE) == read(BASE, PGAPPNAME="x", PGCONNECT_TIMEOUT="3", PGSERVICE="x", PGOPTIONS="-c a=b")


def test_a_passfile_must_be_readable_by_its_owner_only(tmp_path: Path) -> None:
    """libpq demands it, too; a password in the URL overrides the file."""
    file = tmp_path / "pgpass"
    file.write_text("*:*:*:*:p\n")
    file.chmod(0o644)
    assert "chmod 600" in refusal(f"postgresql://u@db/name?passfile={file}")
    file.chmod(0o600)
    assert file == read(f"postgresql://u@db/name?passfile={file}").passfile
    assert read(f"postgresql://u:p@db/name?passfile={file}").passfile is None
    assert "PGPASSWORD" in refusal(f"postgresql://u@db/name?passfile={file}", PGPASSWORD="x")


def test_each_sslmode_makes_the_contexts_of_libpq(tmp_path: Path) -> None:
    """They state which ways are tried, and whether certificate and name are checked."""
    authority = Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
    root = f"&sslrootcert={authority}" if authority.exists() else ""
    expected = {
        "disable": [None],
        "allow": [None, (False, False)],
        "prefer": [(False, False), None],
        "require": [(False, False)],
    }
    for mode, ways in expected.items():
        contexts = read(f"{BASE}?sslmode={mode}").tls.contexts()
        assert ways == [c and (c.verify_mode is ssl.CERT_REQUIRED, c.check_hostname) for c in contexts], mode
    assert read(BASE).tls.mode == "prefer"
    assert read(f"{BASE}?sslrootcert=system").tls.mode == "verify-full"
    if root:
        for mode, way in {"require": (True, False), "verify-ca": (True, False), "verify-full": (True, True)}.items():
            (context,) = read(f"{BASE}?sslmode={mode}{root}").tls.contexts()
            assert context is not None
            assert way == (context.verify_mode is ssl.CERT_REQUIRED, context.check_hostname), mode


def test_an_invalid_certificate_file_is_reported_by_name(tmp_path: Path) -> None:
    """The error comes at the start, not at the first connection."""
    file = tmp_path / "root.crt"
    file.write_text("not PEM")
    assert f"sslrootcert: {file} has no certificate" in refusal(f"{BASE}?sslmode=require&sslrootcert={file}")
    assert f"sslcert {file}" in refusal(f"{BASE}?sslcert={file}")


@pytest.mark.parametrize("option", ["sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "passfile"])
@pytest.mark.parametrize(
    ("path", "why"),
    [("{}/", "Not a directory"), ("/{}/..", "Not a directory"), ("/" + "x" * 5000, "File name too long")],
)
def test_a_file_that_cannot_be_read_is_reported_by_name(tmp_path: Path, option: str, path: str, why: str) -> None:
    """`Path` ignores a slash at the end of a file's name, which OpenSSL refuses: the error named no setting."""
    certificates = make_certificates(tmp_path)
    file = path.format(certificates.certificate)
    others = f"sslcert={certificates.certificate}&" if option == "sslkey" else ""
    sentence = refusal(f"postgresql://u@db/name?sslmode=require&{others}{option}={file}")
    assert f"KEYTURN_DATABASE_URL: {option}: {file} cannot be read: {why}." == sentence


def remove_when_checked(file: Path) -> Thread:
    """Make a file that is removed after the service has opened it for the first time, and before it has read it."""
    os.mkfifo(file)

    def answer() -> None:
        with file.open("wb") as pipe:  # waits until the file is opened for reading
            file.unlink()
            pipe.write(b"-")

    remover = Thread(target=answer)
    remover.start()
    return remover


def test_an_error_of_openssl_alone_is_reported_by_name(tmp_path: Path) -> None:
    """The file may be removed between the check and the use: for every connection the files are read again."""
    certificates = make_certificates(tmp_path)
    gone = tmp_path / "gone.pem"
    for query, option in (
        (f"sslrootcert={gone}", "sslrootcert"),
        (f"sslcrl={gone}", "sslcrl"),
        (f"sslcert={gone}&sslkey={certificates.key}", "sslcert"),
    ):
        remover = remove_when_checked(gone)
        sentence = refusal(f"{BASE}?sslmode=require&{query}")
        remover.join()
        assert f"KEYTURN_DATABASE_URL: {option}: {gone} cannot be read: No such file or directory." == sentence
