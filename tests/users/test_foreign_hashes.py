"""Hashes of other systems: every accepted spelling, and every family that is refused by its name."""

import base64
import contextlib
import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from passlib.hash import (
    argon2,
    bcrypt,
    bcrypt_sha256,
    django_bcrypt_sha256,
    ldap_pbkdf2_sha256,
    pbkdf2_sha1,
    phpass,
    scrypt,
    sha256_crypt,
    sha512_crypt,
)
from werkzeug.security import generate_password_hash

from service.users.foreign_hashes import read

GIVEN = "p\u00e4ssword"
BCRYPT = bcrypt.using(rounds=4).hash(GIVEN)
ARGON2 = argon2.using(type="ID", memory_cost=8, rounds=1, parallelism=1).hash(GIVEN)
PHPASS = phpass.using(rounds=7).hash(GIVEN)
WORDPRESS = base64.b64encode(hmac.digest(b"wp-sha384", GIVEN.encode(), "sha384"))


def spring_pbkdf2() -> str:
    """Return a hash as Pbkdf2PasswordEncoder.defaultsForSpringSecurity_v5_8 writes it."""
    salt = bytes(range(16))
    return "{pbkdf2@SpringSecurity_v5_8}" + (
        (salt + hashlib.pbkdf2_hmac("sha256", GIVEN.encode(), salt, 310_000, 32)).hex()
    )


MADE_HERE = {
    "argon2 of Django": "argon2" + ARGON2,
    "argon2 of Spring": "{argon2}" + ARGON2,
    "argon2 of Spring 5.8": "{argon2@SpringSecurity_v5_8}" + ARGON2,
    "argon2 of OpenLDAP": "{ARGON2}" + ARGON2,
    "bcrypt of Django": "bcrypt$" + BCRYPT,
    "bcrypt after SHA-256 of Django": django_bcrypt_sha256.using(rounds=4).hash(GIVEN),
    "bcrypt after SHA-256 of passlib": bcrypt_sha256.using(rounds=4).hash(GIVEN),
    "bcrypt of Spring": "{bcrypt}" + BCRYPT,
    "bcrypt of LDAP": "{CRYPT}" + BCRYPT,
    "bcrypt of WordPress 6.8": "$wp" + bcrypt.using(rounds=4, ident="2y").hash(WORDPRESS),
    "PBKDF2 of Werkzeug": generate_password_hash(GIVEN, "pbkdf2:sha256:1000"),
    "PBKDF2 of Werkzeug with SHA-512": generate_password_hash(GIVEN, "pbkdf2:sha512:1000"),
    "PBKDF2 of Django with SHA-1": "pbkdf2_sha1$1000$any salt$"
    + base64.b64encode(hashlib.pbkdf2_hmac("sha1", GIVEN.encode(), b"any salt", 1000)).decode(),
    "PBKDF2 of passlib with SHA-1": pbkdf2_sha1.using(rounds=1000).hash(GIVEN),
    "PBKDF2 of OpenLDAP": ldap_pbkdf2_sha256.using(rounds=1000).hash(GIVEN),
    "PBKDF2 of Spring 5.8": spring_pbkdf2(),
    "phpass of WordPress": PHPASS,
    "phpass of phpBB": "$H$" + PHPASS[3:],
    "scrypt of Werkzeug": generate_password_hash(GIVEN, "scrypt:1024:8:1"),
    "scrypt of Django": "scrypt$1024$salt$8$5$"
    + base64.b64encode(hashlib.scrypt(GIVEN.encode(), salt=b"salt", n=1024, r=8, p=5, dklen=64)).decode(),
    "scrypt of crypt": scrypt.using(rounds=4, ident="$7$").hash(GIVEN),
    "SHA-256 crypt": sha256_crypt.using(rounds=1000).hash(GIVEN),
    "SHA-512 crypt": sha512_crypt.using(rounds=5000).hash(GIVEN),
    "SHA-512 crypt of LDAP": "{CRYPT}" + sha512_crypt.using(rounds=1000).hash(GIVEN),
}
SIGNER_KEY = "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
FIREBASE = "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
PUBLISHED = {  # from https://github.com/firebase/scrypt, Spring's reference and Django's tests
    "Firebase, as Supabase writes it": (
        f"$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk={SIGNER_KEY}$42xEC+ixf3L2lw==${FIREBASE}",
        "user1password",
    ),
    "Firebase, as Ory Kratos writes it": (
        f"$firescrypt$ln=14,r=8,p=1$42xEC+ixf3L2lw==${FIREBASE}$Bw==${SIGNER_KEY}",
        "user1password",
    ),
    "bcrypt of Spring": ("{bcrypt}$2a$10$dXJ3SW6G7P50lGmMkkmwe.20cQQubK3.HZWzG3YB1tlRy.fqvM/BG", "password"),
    "PBKDF2 of Spring": (
        "{pbkdf2}5d923b44a6d129f3ddf3e3c8d29412723dcbde72445e8ef6bf3b508fbf17fa4ed4d6b99ca763d8dc",
        "password",
    ),
    "scrypt of Spring": (
        "{scrypt}$e0801$8bWJaSu2IKSn9Z9kM+TPXfOc/9bdYSrN1oD9qfVThWEwdRTnO7re7Ei+fUZRJ68k9lTyuTeUp4of4g24hHnazw=="
        "$OAOec05+bXxvuu/1qZ6NUR+xQYvYv7BeL1QxwRpY5Pc=",
        "password",
    ),
    "PBKDF2 of Django": ("pbkdf2_sha256$10000$seasalt$CWWFdHOWwPnki7HvkcqN9iA2T3KLW1cf2uZ5kvArtVY=", "l\u00e8tmein"),
    "scrypt of Django": (
        "scrypt$16384$seasalt$8$1$Qj3+9PPyRjSJIebHnG81TMjsqtaIGxNQG/aEB/NYafTJ7tibgfYz71m0ldQESkXFRkdVCBhhY8mx7rQwit"
        "e/Pw==",
        "l\u00e8tmein",
    ),
}


@pytest.mark.parametrize("name", MADE_HERE)
def test_a_spelling_of_another_system_is_read(name: str) -> None:
    """The correct password matches, another does not, and white space around the hash changes nothing."""
    hashed = read(MADE_HERE[name])
    assert hashed.matches(GIVEN)
    assert not hashed.matches("password")
    assert hashed.text == read(f" \t{MADE_HERE[name]}\r\n").text == read(hashed.text).text


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_example_is_read(name: str) -> None:
    """The examples in the documentation and the tests of these systems match their passwords and no others."""
    text, password = PUBLISHED[name]
    assert read(text).matches(password)
    assert not read(text).matches(password + "x")


def test_wordpress_trims_passwords() -> None:
    """WordPress removes white space around a password when the user logs in there, and so does the comparison."""
    assert read(MADE_HERE["bcrypt of WordPress 6.8"]).matches(f" {GIVEN}\t")


REFUSED = [
    ("5f4dcc3b5aa765d61d8327deb882cf99", "a bare MD5 or NT hash"),
    ("5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8", "a bare SHA-1 hash"),
    ("5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8", "a bare SHA-2 hash"),
    ("$1$abcdefgh$G//4keteveJp0qb8z2DxG/", "MD5 crypt hash ($1$)"),
    ("{CRYPT}$1$abcdefgh$G//4keteveJp0qb8z2DxG/", "MD5 crypt hash ($1$)"),
    ("$apr1$abcdefgh$R.QGcGFxOTgcJGCOMzkPZ1", "Apache MD5 hash"),
    ("$sha1$1000$abcdefgh$abc", "SHA-1 crypt hash"),
    ("$y$j9T$abc$def", "yescrypt"),
    ("$gy$j9T$abc$def", "yescrypt"),
    ("$3$$8846f7eaee8fb117ad06bdd830b7586c", "an NT hash"),
    ("$S$DmdaEUHMVNyOYWvbqzFDLMHfLzXEbCNhqkV1eEXt0IS9eSHjMYIS", "Drupal 7"),
    ("$2x$05$abcdefghijklmnopqrstuuX2Y3Z4a5b6c7d8e9f0g1h2i3j4k5l6m", "$2x$"),
    ("rEK1ecacw.7.c", "DES crypt"),
    ("sha1$salt$0123456789abcdef0123456789abcdef01234567", "salted MD5 or SHA hash"),
    ("md5$salt$0123456789abcdef0123456789abcdef", "salted MD5 or SHA hash"),
    ("sha256$salt$abc", "salted MD5 or SHA hash"),
    ("0123456789abcdef0123456789abcdef:salt", "salted MD5 or SHA hash"),
    ("md50123456789abcdef0123456789abcdef", "PostgreSQL MD5"),
    ("SCRAM-SHA-256$4096:abc$def:ghi", "SCRAM"),
    ("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", "MySQL"),
    ("AQAAAAIAAYagAAAAE" + "A" * 64 + "==", "ASP.NET"),
    ("{SSHA}DkMTwBl+a/3DQTxCYEApdUtNXGgdUac3", "LDAP {SSHA}"),
    ("{ssha512}abc", "LDAP {SSHA}"),
    ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "LDAP {SHA}"),
    ("{MD5}X03MO1qnZdYdgyfeuILPmQ==", "LDAP {MD5}"),
    ("{CRYPT}rEK1ecacw.7.c", "LDAP {CRYPT}"),
    ("{noop}s3cr3t", "clear text"),
    ("{sha256}97cde38028ad898ebc02e690819fa220e88c62e0699403e94fff291cfffaf841", "is"),
    ("{vault}abc", "in braces that is not known"),
    ("!", "without a password"),
    ("!kDnZAwRYwL1vAqkZB4GWC9wqCmkc2gOaQjMdZbQS", "without a password"),
    ("s3cr3t", "is not argon2, bcrypt, scrypt or PBKDF2"),
    ("pbkdf2:sha256$salt$abcd", "is not argon2"),
    ("pbkdf2:md5:1000$salt$" + "ab" * 16, "is not argon2"),
    ("pbkdf2:sha256:1000$salt$" + "ab" * 31, "truncated"),
    ("scrypt:1000:8:1$salt$" + "ab" * 64, "not valid"),
    ("scrypt:1024:8:1$salt$" + "ab" * 8, "truncated"),
    ("{pbkdf2}" + "ab" * 48, "other settings than the defaults"),
    (f"$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=Bw==$42xEC+ixf3L2lw==${FIREBASE}", "signer key"),
]


@pytest.mark.parametrize(("text", "name"), REFUSED)
def test_a_family_that_is_not_accepted_is_named(text: str, name: str) -> None:
    """The refusal says what the hash is and what to do instead; it does not quote the hash."""
    with pytest.raises(ValueError, match=r"^The hash is ") as refusal:
        read(text)
    assert name in str(refusal.value)
    assert "s3cr3t" not in str(refusal.value)


LIMITS = [  # the most expensive accepted hash, and the cheapest refused one
    ("scrypt$16384$salt$8$16$" + base64.b64encode(bytes(64)).decode(), "$8$16$", "$8$17$"),
    ("scrypt$131072$salt$8$4$" + base64.b64encode(bytes(64)).decode(), "$8$4$", "$8$5$"),
    ("scrypt:131072:8:1$salt$" + "ab" * 64, ":131072:", ":262144:"),
    ("scrypt:4096:32:1$salt$" + "ab" * 64, ":32:", ":33:"),
    ("{scrypt}$110801$AAAA$" + base64.b64encode(bytes(32)).decode(), "$110801$", "$120801$"),
    (MADE_HERE["PBKDF2 of Werkzeug"].replace(":1000$", ":2000000$"), ":2000000$", ":2000001$"),
    (PUBLISHED["PBKDF2 of Django"][0].replace("$10000$", "$2000000$"), "$2000000$", "$2000001$"),
    (PUBLISHED["Firebase, as Supabase writes it"][0].replace("n=14", "n=17"), "n=17", "n=18"),
    (MADE_HERE["bcrypt of WordPress 6.8"].replace("$04$", "$14$"), "$14$", "$15$"),
    (MADE_HERE["bcrypt after SHA-256 of Django"].replace("$04$", "$14$"), "$14$", "$15$"),
    (PHPASS.replace("$P$5", "$P$E"), "$P$E", "$P$F"),
    (MADE_HERE["SHA-256 crypt"].replace("=1000$", "=700000$"), "=700000$", "=700001$"),
    (sha512_crypt.using(rounds=1000).hash(GIVEN).replace("=1000$", "=700000$"), "=700000$", "=700001$"),
]


@pytest.mark.parametrize(("text", "old", "new"), LIMITS, ids=range(len(LIMITS)))
def test_the_cost_of_a_hash_is_limited(text: str, old: str, new: str) -> None:
    """128 MiB and about one second are accepted; the next larger cost is refused."""
    assert old in text
    read(text)
    with pytest.raises(ValueError, match="cost too much"):
        read(text.replace(old, new))


BEGINNINGS = st.sampled_from([text[:n] for text in MADE_HERE.values() for n in (3, 8, 20, len(text) - 3)])


@settings(deadline=None, max_examples=300)
@given(beginning=BEGINNINGS, rest=st.text(st.characters(max_codepoint=0x17F), max_size=60))
def test_any_text_is_a_hash_or_is_refused(beginning: str, rest: str) -> None:
    """Every value in another system's column is accepted or gets this kind of refusal."""
    with contextlib.suppress(ValueError):
        read(beginning + rest)


@pytest.mark.parametrize("name", [name for name in MADE_HERE if not name.startswith("argon2")])
def test_a_truncated_hash_is_not_accepted(name: str) -> None:
    """It is refused if cut anywhere but in base64's padding: a short digest would match many passwords."""
    whole = MADE_HERE[name].rstrip("=")
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"^The hash is "):
            read(whole[:length])
