"""The two kinds of token, and everything that must not be accepted as one of them.

Tokens are forged by hand, byte by byte, since a library would refuse to write what an attacker can send.
"""

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from bench import forgeries
from service.clock import LEEWAY_SECONDS
from service.errors import InvalidToken
from service.tokens.access import AccessClaims, AccessCodec, Subject
from service.tokens.jwt_codec import MAX_CHARACTERS, SigningKey, VerifyingKey
from service.tokens.pending import PendingClaims, PendingCodec
from service.tokens.refresh import RefreshCodec
from service.tokens.tokens import Tokens

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "json_web_signature_test.json"
NOW = datetime(2026, 11, 22, 12, 0, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ISSUER, AUDIENCE = "https://auth.example.com", "https://api.example.com"
NEW_SECRET, OLD_SECRET, FOREIGN_SECRET = (hashlib.sha256(name).digest() for name in (b"new", b"old", b"foreign"))
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256: SEC 2 section 2.4.2

Claims = dict[str, Any]
Sign = Callable[[bytes], bytes]
no_deadline = settings(deadline=None)

EC_KEY, FOREIGN_EC_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
PRIVATE: dict[str, Any] = {
    "ES256": EC_KEY,
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
}
PUBLISHED = {f"the-{name}": VerifyingKey(name, key.public_key()) for name, key in PRIVATE.items()}
KID = "the-ES256"
ALICE = Subject(
    sub="Vb3k",
    sid="s-1",
    username="alice",
    roles=("admin", "staff"),
    amr=("pwd", "otp", "mfa"),
    acr="aal2",
    auth_time=int(NOW.timestamp()),
)


def subject_of(access: AccessClaims | PendingClaims) -> Subject:
    """Return the subject of a verified access token."""
    assert isinstance(access, AccessClaims)
    return Subject(**{fact.name: getattr(access, fact.name) for fact in fields(Subject)})


def tokens_with(*pending_keys: bytes, issuer: str = ISSUER, audience: str = AUDIENCE) -> Tokens:
    return Tokens(
        access=AccessCodec(issuer=issuer, audience=audience, ttl=timedelta(minutes=10)),
        pending=PendingCodec(issuer=issuer, ttl=timedelta(minutes=5), keys=pending_keys),
        refresh=RefreshCodec([hashlib.sha256(key).digest() for key in pending_keys]),
    )


TOKENS = tokens_with(NEW_SECRET)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def mac(secret: bytes, name: str = "sha256") -> Sign:
    return lambda message: hmac.digest(secret, message, name)


def ecdsa(key: ec.EllipticCurvePrivateKey) -> Sign:
    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def compact(header: str | Claims, payload: str | Claims, sign: Sign) -> str:
    """Make a JWS of any header and payload (RFC 7515 section 7.1)."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, payload)]
    message = ".".join(b64(part.encode()) for part in parts)
    return f"{message}.{b64(sign(message.encode()))}"


def always(signature: bytes) -> Sign:
    """Return a function that gives every message this signature."""
    return lambda _message: signature


def parts_of(token: str) -> tuple[Claims, Claims]:
    header, payload, _ = token.split(".")
    return json.loads(unb64(header)), json.loads(unb64(payload))


@dataclass(frozen=True)
class Kind:
    """One kind of token: how the service writes and reads it, and how its key signs."""

    name: str
    write: Callable[[datetime], str]
    read: Callable[[str, datetime], AccessClaims | PendingClaims]
    sign: Sign
    lifetime: int

    def forge(self, *, header: Claims | None = None, claims: Claims | None = None, without: str = "") -> str:
        """Return a valid token with members changed, or one removed, signed again with the valid key."""
        its_header, its_claims = parts_of(self.write(NOW))
        its_header |= header or {}
        its_claims |= claims or {}
        its_claims.pop(without, None)
        its_header.pop(without, None)
        return compact(its_header, its_claims, self.sign)

    def refuses(self, token: str, now: datetime = NOW) -> bool:
        try:
            self.read(token, now)
        except InvalidToken:
            return True
        return False


def write_access(now: datetime) -> str:
    return TOKENS.access.write(SigningKey(KID, "ES256", EC_KEY), ALICE, now=now)


def read_access(token: str, now: datetime) -> AccessClaims:
    return TOKENS.access.read(token, find_key=PUBLISHED.get, now=now)


def write_pending(now: datetime) -> str:
    return TOKENS.pending.write_for_login(sub="Vb3k", credential_version=3, now=now)


def read_pending(token: str, now: datetime) -> PendingClaims:
    return TOKENS.pending.read(token, now=now)


ACCESS = Kind("access", write_access, read_access, ecdsa(EC_KEY), 600)
PENDING = Kind("pending", write_pending, read_pending, mac(NEW_SECRET), 300)


@pytest.fixture(params=[ACCESS, PENDING], ids=["access", "pending"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each of the two kinds."""
    chosen: Kind = request.param
    return chosen


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_an_access_token_has_the_claims_that_were_written(algorithm: str) -> None:
    """With every algorithm, Keyturn reads it, and so does any library with the public key (RFC 9068)."""
    key = SigningKey(f"the-{algorithm}", algorithm, PRIVATE[algorithm])
    token = TOKENS.access.write(key, ALICE, now=NOW)
    assert subject_of(read_access(token, NOW)) == ALICE
    header, claims = parts_of(token)
    assert {"typ": "at+jwt", "alg": algorithm, "kid": f"the-{algorithm}"} == header
    issued = int(NOW.timestamp())
    jti = claims.pop("jti")
    assert {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "Vb3k",
        "client_id": "keyturn",
        "iat": issued,
        "exp": issued + 600,
        "sid": "s-1",
        "auth_time": issued,
        "acr": "aal2",
        "amr": ["pwd", "otp", "mfa"],
        "username": "alice",
        "roles": ["admin", "staff"],
    } == claims
    assert len(jti) >= 22
    decoded = jwt.decode(
        token,
        PRIVATE[algorithm].public_key(),
        algorithms=[algorithm],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert "alice" == decoded["username"]


def test_a_pending_token_has_the_user_and_the_credential_version() -> None:
    """It also has its expiry, and names no key."""
    token = write_pending(NOW)
    pending = read_pending(token, NOW)
    assert ("Vb3k", 3, int(NOW.timestamp()) + 300) == (pending.sub, pending.credential_version, pending.expires_at)
    header, claims = parts_of(token)
    assert {"typ": "mfa+jwt", "alg": "HS256"} == header
    assert ("mfa_pending", ["pwd"]) == (claims["token_use"], claims["amr"])
    assert f"{ISSUER}/login-2fa" == claims["aud"]


def test_no_two_tokens_are_equal(kind: Kind) -> None:
    """Two tokens of the same moment for the same user differ in `jti`."""
    assert 50 == len({parts_of(kind.write(NOW))[1]["jti"] for _ in range(50)})


def test_a_token_is_valid_until_its_last_second(kind: Kind) -> None:
    """One second before `exp` it is read; from `exp` on it is refused (RFC 7519 section 4.1.4)."""
    token = kind.write(NOW)
    end = NOW + kind.lifetime * SECOND
    assert not kind.refuses(token, end - SECOND)
    assert not kind.refuses(token, (end - SECOND).replace(microsecond=999999))
    assert kind.refuses(token, end)
    assert kind.refuses(token, end + 100 * 365 * 86400 * SECOND)


def test_a_token_may_come_from_a_replica_whose_clock_is_ten_seconds_ahead(kind: Kind) -> None:
    """Ten seconds are accepted, eleven are not."""
    token = kind.write(NOW)
    assert not kind.refuses(token, NOW - LEEWAY_SECONDS * SECOND)
    assert kind.refuses(token, NOW - (LEEWAY_SECONDS + 1) * SECOND)


def test_the_clock_of_the_machine_is_not_read(kind: Kind) -> None:
    """A token of the year 2001 or 2100 is valid at that time: only the given time counts."""
    for moment in (datetime(2001, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)):
        assert not kind.refuses(kind.write(moment), moment)
        assert kind.refuses(kind.write(moment), moment + 86400 * SECOND)


CLAIMS = {
    "access": ["iss", "sub", "aud", "iat", "exp", "jti", "sid", "auth_time", "acr", "amr", "username"],
    "pending": ["iss", "sub", "aud", "iat", "exp", "jti", "token_use", "epoch"],
}
EVERY_CLAIM = [(kind, name) for kind in (ACCESS, PENDING) for name in CLAIMS[kind.name]]
IDS = [f"{kind.name}-{name}" for kind, name in EVERY_CLAIM]


@pytest.mark.parametrize(("kind", "name"), EVERY_CLAIM, ids=IDS)
def test_no_claim_may_be_missing_or_null(kind: Kind, name: str) -> None:
    """Each claim that a decision depends on is required; a valid signature does not help."""
    assert not kind.refuses(kind.forge())
    assert kind.refuses(kind.forge(without=name))
    assert kind.refuses(kind.forge(claims={name: None}))


@pytest.mark.parametrize(("kind", "name"), EVERY_CLAIM, ids=IDS)
@pytest.mark.parametrize("value", [True, False, {}, {"pwd": 1}, [True], -0.5], ids=repr)
def test_no_claim_may_be_of_another_type(kind: Kind, name: str, value: object) -> None:
    """A boolean is neither a number nor a text, an object is no list; nothing is converted (RFC 8725 section 2.8)."""
    assert kind.refuses(kind.forge(claims={name: value}))


@pytest.mark.parametrize("name", ["iat", "exp", "auth_time", "epoch"])
def test_numbers_must_be_whole_numbers(name: str) -> None:
    """A number in quotation marks, with a fraction, in a list or without end is refused."""
    kind = PENDING if name == "epoch" else ACCESS
    genuine = parts_of(kind.write(NOW))[1][name]
    for value in (str(genuine), float(genuine), genuine + 0.5, [genuine], float("nan"), float("inf"), -float("inf")):
        assert kind.refuses(kind.forge(claims={name: value})), value


@pytest.mark.parametrize("name", ["sub", "sid", "username", "acr", "jti"])
def test_texts_must_be_texts(name: str) -> None:
    """A number, a list of texts or an empty text is refused in their place."""
    for kind in (ACCESS, PENDING):
        for value in (7, ["alice"], {"alice": 1}, ""):
            is_read = name in CLAIMS[kind.name] and (kind.name, name, value) != ("access", "jti", "")
            assert kind.refuses(kind.forge(claims={name: value})) or not is_read, (kind.name, value)


@pytest.mark.parametrize("amr", ["mfa", "", {"mfa": True}, ["pwd", 1], ["pwd", ""], [["pwd"]], 7])
def test_amr_must_be_a_list_of_texts(amr: object) -> None:
    """`"mfa"` is not `["m", "f", "a"]`, and an object's names are no methods (RFC 8176)."""
    assert ACCESS.refuses(ACCESS.forge(claims={"amr": amr}))


@pytest.mark.parametrize(
    "audience",
    [
        "https://evil.example.com",
        ISSUER,
        f"{AUDIENCE}/",
        AUDIENCE.upper(),
        [AUDIENCE],
        [AUDIENCE, "https://evil.example.com"],
        [f"{ISSUER}/login-2fa"],
        [],
        "",
        {AUDIENCE: 1},
    ],
    ids=str,
)
def test_another_audience_is_refused(kind: Kind, audience: object) -> None:
    """Only the kind's own audience, alone and as a text, is accepted."""
    assert kind.refuses(kind.forge(claims={"aud": audience}))


def test_each_kind_has_its_own_audience() -> None:
    """The audience of one kind is not accepted for the other, not even with the right key and type."""
    assert ACCESS.refuses(ACCESS.forge(claims={"aud": f"{ISSUER}/login-2fa"}))
    assert PENDING.refuses(PENDING.forge(claims={"aud": AUDIENCE}))


@pytest.mark.parametrize(
    "issuer", ["https://evil.example.com", f"{ISSUER}/", "HTTPS://AUTH.EXAMPLE.COM", [ISSUER], ""], ids=str
)
def test_another_issuer_is_refused(kind: Kind, issuer: object) -> None:
    """The issuer is compared character by character (RFC 7519 section 4.1.1)."""
    assert kind.refuses(kind.forge(claims={"iss": issuer}))


@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "", "logout+jwt", "at+jwt ", "mfa+jwt\0", None, 1, ["at+jwt"]], ids=repr
)
def test_another_type_is_refused(kind: Kind, typ: object) -> None:
    """Each kind has its `typ`, and a token without one is neither (RFC 8725 section 3.11)."""
    assert kind.refuses(kind.forge(header={"typ": typ}))
    assert kind.refuses(kind.forge(without="typ"))


def test_the_type_of_the_other_kind_is_refused() -> None:
    """The type alone decides between two tokens that are equal otherwise."""
    assert ACCESS.refuses(ACCESS.forge(header={"typ": "mfa+jwt"}))
    assert PENDING.refuses(PENDING.forge(header={"typ": "at+jwt"}))


@pytest.mark.parametrize("use", ["access", "mfa_pending ", "MFA_PENDING", ["mfa_pending"], ""], ids=repr)
def test_another_use_is_refused(use: object) -> None:
    """The pending token names its use, which no other token has."""
    assert PENDING.refuses(PENDING.forge(claims={"token_use": use}))


def test_a_pending_token_with_an_authenticator_has_a_session() -> None:
    """An authenticator is added within a session, so that its first code steps that session up."""
    assert not PENDING.refuses(PENDING.forge(claims={"sid": "s-1", "raised": 0, "factor": "f-1"}))
    assert PENDING.refuses(PENDING.forge(claims={"raised": 0, "factor": "f-1"}))


def test_a_token_of_the_future_is_refused(kind: Kind) -> None:
    """It is not valid before `nbf` (RFC 7519 section 4.1.5), even though Keyturn never writes that claim."""
    later = int(NOW.timestamp()) + LEEWAY_SECONDS + 1
    assert kind.refuses(kind.forge(claims={"nbf": later}))
    assert kind.refuses(kind.forge(claims={"nbf": "now"}))
    assert not kind.refuses(kind.forge(claims={"nbf": later - 3600}))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "HS256 ", "ES256K", "RS257", None, 7])
def test_an_unknown_algorithm_or_none_is_refused(kind: Kind, algorithm: object) -> None:
    """`alg: none` in any spelling, an unknown name, or no text is refused, signed or not (RFC 8725 section 3.2)."""
    header, claims = parts_of(kind.write(NOW))
    for sign in (lambda _message: b"", kind.sign):
        assert kind.refuses(compact({**header, "alg": algorithm}, claims, sign))
    assert kind.refuses(kind.forge(without="alg"))


def test_a_public_key_is_not_accepted_as_a_shared_secret() -> None:
    """HS256 with the published key as the secret is refused in every form of the key (RFC 8725 section 2.1)."""
    public = EC_KEY.public_key()
    numbers = public.public_numbers()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    x, y = (n.to_bytes(32, "big") for n in (numbers.x, numbers.y))
    jwk = json.dumps({"crv": "P-256", "kty": "EC", "x": b64(x), "y": b64(y)}, separators=(",", ":")).encode()
    forms = [
        pem,
        pem.strip(),
        pem.replace(b"\n", b"\r\n"),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        x + y,
        jwk,
        b"",
    ]
    header, claims = parts_of(ACCESS.write(NOW))
    pending_header, pending_claims = parts_of(PENDING.write(NOW))
    for secret in forms:
        for name, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")):
            assert ACCESS.refuses(compact({**header, "alg": name}, claims, mac(secret, digest)))
            assert PENDING.refuses(compact({**pending_header, "alg": name}, pending_claims, mac(secret, digest)))


def test_the_key_decides_on_the_algorithm_not_the_header() -> None:
    """A token that names a published key and another algorithm than the key's is refused, however it is signed."""
    header, claims = parts_of(ACCESS.write(NOW))
    rs256, eddsa = PRIVATE["RS256"], PRIVATE["EdDSA"]
    from cryptography.hazmat.primitives.asymmetric import padding

    signers: dict[str, Sign] = {
        "ES256": ecdsa(EC_KEY),
        "EdDSA": eddsa.sign,
        "RS256": lambda message: bytes(rs256.sign(message, padding.PKCS1v15(), SHA256())),
        "PS256": lambda message: bytes(rs256.sign(message, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())),
    }
    for kid, published in PUBLISHED.items():
        for algorithm, sign in signers.items():
            token = compact({**header, "alg": algorithm, "kid": kid}, claims, sign)
            assert ACCESS.refuses(token) == (algorithm != published.algorithm), (kid, algorithm)


def test_a_pending_token_signed_with_a_published_key_is_refused() -> None:
    """A pending token signed with the key of access tokens is refused, and vice versa."""
    header, claims = parts_of(PENDING.write(NOW))
    for kid in ({}, {"kid": KID}):
        assert PENDING.refuses(compact({**header, **kid, "alg": "ES256"}, claims, ecdsa(EC_KEY)))
        assert PENDING.refuses(compact({**header, **kid}, claims, ecdsa(EC_KEY)))
    header, claims = parts_of(ACCESS.write(NOW))
    for algorithm in ("HS256", "ES256"):
        assert ACCESS.refuses(compact({**header, "alg": algorithm}, claims, mac(NEW_SECRET)))


def test_neither_kind_is_accepted_as_the_other() -> None:
    """A valid token of one kind is refused where the other is read."""
    assert ACCESS.refuses(PENDING.write(NOW))
    assert PENDING.refuses(ACCESS.write(NOW))


@pytest.mark.parametrize(
    "kid", ["another", "", "the-es256", f"{KID} ", "../../dev/null", None, 1, True, [KID], {KID: 1}]
)
def test_an_unpublished_key_is_refused(kid: object) -> None:
    """`kid` must name a published key, as a text."""
    assert ACCESS.refuses(ACCESS.forge(header={"kid": kid}))
    assert ACCESS.refuses(ACCESS.forge(without="kid"))


def test_a_key_in_the_token_is_ignored(kind: Kind) -> None:
    """A key in the header, or its address, is not read (RFC 8725 sections 3.5 and 3.10)."""
    numbers = FOREIGN_EC_KEY.public_key().public_numbers()
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": b64(numbers.x.to_bytes(32, "big")),
        "y": b64(numbers.y.to_bytes(32, "big")),
    }
    header, claims = parts_of(ACCESS.write(NOW))
    for member in ({"jwk": jwk}, {"jku": "https://evil.example.com/jwks"}, {"x5u": "https://evil.example.com/"}):
        assert kind.refuses(compact({**header, **member}, claims, ecdsa(FOREIGN_EC_KEY)))


@pytest.mark.parametrize("extension", [["exp"], ["b64"], ["x"], [], "b64", None, [1]], ids=repr)
def test_a_critical_extension_is_refused(kind: Kind, extension: object) -> None:
    """`crit` names an unknown extension, or none, which is not allowed (RFC 7515 section 4.1.11)."""
    assert kind.refuses(kind.forge(header={"crit": extension, "x": 1}))


def test_an_unencoded_payload_is_refused(kind: Kind) -> None:
    """`b64: false` (RFC 7797) is not for tokens, whether it is named critical or not."""
    assert kind.refuses(kind.forge(header={"b64": False}))
    assert kind.refuses(kind.forge(header={"b64": False, "crit": ["b64"]}))


def test_the_key_of_another_service_is_refused() -> None:
    """The same claims signed with another key are refused."""
    header, claims = parts_of(ACCESS.write(NOW))
    assert ACCESS.refuses(compact(header, claims, ecdsa(FOREIGN_EC_KEY)))
    header, claims = parts_of(PENDING.write(NOW))
    assert PENDING.refuses(compact(header, claims, mac(FOREIGN_SECRET)))


def test_another_issuer_with_the_same_keys_is_refused() -> None:
    """Two services that share a master secret by mistake do not accept each other's tokens."""
    twin = tokens_with(NEW_SECRET, issuer="https://other.example.com")
    with pytest.raises(InvalidToken):
        twin.pending.read(write_pending(NOW), now=NOW)
    with pytest.raises(InvalidToken):
        twin.access.read(write_access(NOW), find_key=PUBLISHED.get, now=NOW)


def test_a_rotated_master_secret_still_verifies_its_tokens() -> None:
    """The first key signs, and all listed keys verify; a key that is no longer listed does not."""
    before, during, after = tokens_with(OLD_SECRET), tokens_with(NEW_SECRET, OLD_SECRET), tokens_with(NEW_SECRET)
    old = before.pending.write_for_login(sub="Vb3k", credential_version=3, now=NOW)
    new = during.pending.write_for_login(sub="Vb3k", credential_version=3, now=NOW)
    assert 3 == during.pending.read(old, now=NOW).credential_version
    assert 3 == during.pending.read(new, now=NOW).credential_version
    assert 3 == after.pending.read(new, now=NOW).credential_version
    for service, token in ((before, new), (after, old)):
        with pytest.raises(InvalidToken):
            service.pending.read(token, now=NOW)
    with pytest.raises(InvalidToken):
        during.pending.read(old, now=NOW + 300 * SECOND)


@no_deadline
@given(data=st.data())
def test_no_single_character_can_be_changed(data: st.DataObject) -> None:
    """A changed character in header, claims or signature makes another token, which is refused."""
    for kind in (ACCESS, PENDING):
        token = kind.write(NOW)
        place = data.draw(st.integers(0, len(token) - 1))
        other = data.draw(st.sampled_from("ABab01-_.=+/ \n\0\x7f~"))
        if other != token[place]:
            assert kind.refuses(token[:place] + other + token[place + 1 :])


@no_deadline
@given(data=st.data())
def test_no_bit_of_the_signature_can_be_changed(data: st.DataObject) -> None:
    """Each flipped bit, each shorter and each longer signature is refused."""
    for kind in (ACCESS, PENDING):
        message, _, signature = kind.write(NOW).rpartition(".")
        raw = bytearray(unb64(signature))
        bit = data.draw(st.integers(0, 8 * len(raw) - 1))
        raw[bit // 8] ^= 1 << bit % 8
        assert kind.refuses(f"{message}.{b64(bytes(raw))}")
        whole = unb64(signature)
        for other in (whole[:-1], whole + b"\0", b"\0" + whole, whole * 2, b"", b"\0" * len(whole)):
            assert kind.refuses(f"{message}.{b64(other)}")


def test_a_der_signature_is_refused() -> None:
    """ECDSA's other encoding, and the zero signature of CVE-2022-21449, are refused (RFC 7518 section 3.4)."""
    header, claims = parts_of(ACCESS.write(NOW))
    assert ACCESS.refuses(compact(header, claims, lambda message: EC_KEY.sign(message, ec.ECDSA(SHA256()))))
    for r, s in ((0, 0), (1, 0), (0, 1), (ORDER, ORDER), (1, 1), (ORDER - 1, 1)):
        assert ACCESS.refuses(compact(header, claims, always(r.to_bytes(32, "big") + s.to_bytes(32, "big"))))


def test_the_twin_of_an_es256_signature_is_valid() -> None:
    """`(r, n - s)` is as valid as `(r, s)`: a token is identified by `jti` and `sid`, never by its text."""
    token = ACCESS.write(NOW)
    message, _, signature = token.rpartition(".")
    r, s = unb64(signature)[:32], int.from_bytes(unb64(signature)[32:], "big")
    twin = f"{message}.{b64(r + (ORDER - s).to_bytes(32, 'big'))}"
    assert twin != token
    assert ACCESS.read(twin, NOW) == ACCESS.read(token, NOW)
    assert parts_of(twin) == parts_of(token)


def test_a_signature_has_one_spelling(kind: Kind) -> None:
    """The unused bits of its last character must be zero (RFC 4648 section 3.5)."""
    token = kind.write(NOW)
    signature = unb64(token.rpartition(".")[2])
    others = [token[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    twins = [other for other in others if other != token and unb64(other.rpartition(".")[2]) == signature]
    assert len(twins) in {3, 15}  # two unused bits, or four
    assert [] == [twin for twin in twins if not kind.refuses(twin)]


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("added", ["=", "==", "====", "\n", " ", "!", "+", "/", "\0", "A", "AAAA"], ids=repr)
def test_nothing_may_be_added_to_a_part(kind: Kind, part: int, added: str) -> None:
    """All three parts are base64url without padding, line breaks or other characters (RFC 7515 section 2)."""
    for place in (0, 9, None):
        parts = kind.write(NOW).split(".")
        text = parts[part]
        parts[part] = text + added if place is None else text[:place] + added + text[place:]
        assert kind.refuses(".".join(parts)), place


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "...", "a", "a.b", "a.b.c", "a.b.c.d", "e30.e30.", "e30.e30.e30", "null", "{}", "Bearer a.b.c"],
)
def test_a_text_that_is_no_token_is_refused(kind: Kind, text: str) -> None:
    """It has too few parts, too many, empty ones, or is something else."""
    assert kind.refuses(text)


def test_a_valid_token_with_text_around_it_is_refused(kind: Kind) -> None:
    """A space, a line feed, a scheme, a fourth part or a detached payload is not skipped."""
    token = kind.write(NOW)
    header, payload, signature = token.split(".")
    for text in (
        f" {token}",
        f"{token}\n",
        f"Bearer {token}",
        f"{token}.",
        f".{token}",
        f"{token}.{signature}",
        token * 2,
    ):
        assert kind.refuses(text)
    assert kind.refuses(f"{header}..{signature}")
    assert kind.refuses(f"{header}.{payload}.")
    assert kind.refuses(json.dumps({"protected": header, "payload": payload, "signature": signature}))


@pytest.mark.parametrize(
    "header",
    ["", "null", "[]", "7", '"x"', "{", "\ud800".encode("utf-16-le", "surrogatepass").decode("latin-1"), "[" * 4400,
     '{"typ":"at+jwt","alg":"ES256","kid":"the-ES256","x":' + "[" * 2200 + "]" * 2200 + "}",
     '{"typ":"mfa+jwt","alg":"HS256","x":' + "9" * 4400 + "}"],
    ids=["empty", "null", "list", "number", "text", "cut", "binary", "deep", "deep-and-closed", "huge number"],
)  # fmt: skip
def test_a_header_that_is_not_an_object_is_refused(kind: Kind, header: str) -> None:
    """Any other header is refused as invalid and causes no failure."""
    assert kind.refuses(compact(header, parts_of(kind.write(NOW))[1], kind.sign))


@pytest.mark.parametrize("payload", ["", "null", "[]", "7", '"x"', "{", '{"exp":' + "9" * 2000 + "}"])
def test_claims_that_are_not_an_object_are_refused(kind: Kind, payload: str) -> None:
    """They are refused even under a valid signature."""
    assert kind.refuses(compact(parts_of(kind.write(NOW))[0], payload, kind.sign))


@no_deadline
@given(text=st.text() | st.text(st.sampled_from("eyJ0.AAA-_=\ud800\0\n")) | st.binary().map(b64))
def test_any_text_raises_invalid_token_only(text: str) -> None:
    """Lone surrogates, NULs and whatever else a header may carry raise `InvalidToken`, never another error."""
    for kind in (ACCESS, PENDING):
        assert kind.refuses(text)
        assert kind.refuses(f"{text}.{text}.{text}")


def test_a_token_is_ascii(kind: Kind) -> None:
    """A full-width letter or a lone surrogate in any place is refused."""
    token = kind.write(NOW)
    for other in ("\uff41", "\ud800", "\u0131", "\xe9"):
        for place in (0, token.index(".") + 3, len(token) - 1):
            assert kind.refuses(token[:place] + other + token[place + 1 :])


def test_a_token_has_at_most_6_kib(kind: Kind) -> None:
    """The longest token within the limit is read, the next longer one is not parsed."""
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for length in range(4000, 4500):
        token = kind.forge(claims={"padding": "x" * length})
        sizes[kind.refuses(token)].append(len(token))
    assert MAX_CHARACTERS - 2 <= max(sizes[False]) <= MAX_CHARACTERS < min(sizes[True])


def test_unknown_claims_are_ignored(kind: Kind) -> None:
    """A newer version may add a claim without breaking an older one (RFC 7519 section 4)."""
    assert kind.read(kind.forge(claims={"tenant": "x", "nested": {"a": [1]}}), NOW)


def read_vectors() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    if not VECTORS.exists():
        pytest.skip(f"{VECTORS} is missing: the JWS vectors of Project Wycheproof did not run")
    groups = json.loads(VECTORS.read_text("utf-8"))["testGroups"]
    return [(group, test) for group in groups for test in group["tests"]]


def test_no_signature_of_foreign_keys_is_accepted(kind: Kind) -> None:
    """Project Wycheproof's 401 signatures, including the valid ones, are neither access nor pending tokens."""
    vectors = read_vectors()
    assert len(vectors) > 300
    for _, vector in vectors:
        token = vector["jws"] if isinstance(vector["jws"], str) else json.dumps(vector["jws"])
        assert kind.refuses(token), vector["tcId"]


def test_no_part_of_a_foreign_token_is_accepted(kind: Kind) -> None:
    """A valid token with its header, its claims or its signature taken from a vector is refused."""
    genuine = kind.write(NOW).split(".")
    for _, vector in read_vectors():
        foreign = vector["jws"].split(".") if isinstance(vector["jws"], str) else []
        if len(foreign) == 3:
            for part in range(3):
                mixed = [*genuine[:part], foreign[part], *genuine[part + 1 :]]
                assert kind.refuses(".".join(mixed)), (vector["tcId"], part)


def test_a_token_of_a_client_has_the_client_as_its_subject() -> None:
    """A token with a user as its subject is not a client's token, even if it has a scope."""
    key = SigningKey(KID, "ES256", EC_KEY)
    token = TOKENS.access.write_for_client(key, "billing", "read write", now=NOW)
    read = TOKENS.access.read_of_client(token, find_key=PUBLISHED.get, now=NOW)
    assert ("billing", "read write") == (read.client_id, read.scope)
    with pytest.raises(InvalidToken):
        TOKENS.access.read(token, find_key=PUBLISHED.get, now=NOW)
    for of_user in (write_access(NOW), ACCESS.forge(claims={"scope": "read"})):
        with pytest.raises(InvalidToken):
            TOKENS.access.read_of_client(of_user, find_key=PUBLISHED.get, now=NOW)


def test_forgeries_are_many_and_differ_from_the_token() -> None:
    """There are hundreds for each genuine token, and nearly all of them differ from each other."""
    key = PUBLISHED["the-ES256"].key
    jwk = json.loads(ECAlgorithm.to_jwk(key)) | {"kid": "the-ES256"}
    for kind in (ACCESS, PENDING):
        genuine = kind.write(NOW)
        bent = list(forgeries.of_jwt(genuine, jwk, random.Random(1)))  # noqa: S311 -- seeded test data
        assert genuine not in bent
        assert len(set(bent)) > 200
        assert [] == [token for token in bent if not kind.refuses(token)]
    assert any(len(token) > MAX_CHARACTERS for token in bent)
