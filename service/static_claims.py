"""Static claims: values that are stored with a user, and that `KEYTURN_CLAIMS` puts into access tokens.

A relying service must not mistake one for a claim with a meaning of its own. So no static claim has a name that is
registered (RFC 7519 section 4.1, the IANA registry "JSON Web Token Claims") or that Keyturn uses itself.
"""

import json
import re
from collections.abc import Mapping

MAX_BYTES = 1024
"""The limit for all static claims of a user together, as JSON in ASCII, the form that tokens have them in. There is a
limit because every access token of the user may contain them."""
MAX_NAME_LENGTH = 128
MAX_WHOLE_NUMBER = 2**53 - 1
"""RFC 7493 section 2.2: numbers beyond it are not exact in JavaScript."""

NAME_PATTERN = "[a-z][a-z0-9_.:-]*|https?://[A-Za-z0-9._~:/#%-]+"
"""A short name such as `tenant`, or a collision-resistant name (RFC 7519 section 4.2): a URL, a URN or a domain name
that belongs to the operator."""
TEXT_PATTERN = "[^\\u0000-\\u001f\\u007f-\\u009f]*"

OWN = frozenset(
    (
        *(
            "acr",
            "active",
            "amr",
            "aud",
            "auth_time",
            "client_id",
            "epoch",
            "exp",
            "factor",
            "iat",
            "iss",
            "jti",
            "known_device",
        ),
        *("raised", "restores", "roles", "scope", "sid", "sub", "token_type", "token_use", "username"),
    )
)
"""The claims of Keyturn's tokens, and the members of `/introspect`."""

REGISTERED = frozenset(
    """
    _claim_names _claim_sources _sd _sd_alg ace_profile acr act address also_known_as amr at_hash at_use_nbr atc ath
    attest aud auth_time authority_hints authorization_details azp birth_family_name birth_given_name
    birth_middle_name birthdate bootcount bootseed c_hash cdnicrit cdniets cdniip cdnistd cdnistt cdniuc cdniv
    client_id cmw cnf cnonce constraints crit crn dbgstat delegation dest div dloas eat_nonce eat_profile email
    email_verified entitlements events exi exp family_name gender geohash given_name groups htm htu hwmodel hwversion
    iat intuse iss jcard jti jwks keys locale location logo_uri manifests may_act measres measurements metadata
    metadata_policy metadata_policy_crit middle_name mky msgi msisdn name nationalities nbf nickname nonce oemboot
    oemid opt orig origid phone_number phone_number_verified picture place_of_birth preferred_username profile rcd
    rcdi rdap_allowed_purposes rdap_dnt_allowed ref roles rph s_hash salutation scope sd_hash sid sig_val_claims
    sip_callid sip_cseq_num sip_date sip_from_tag sip_via_branch source_endpoint sph status sub sub_id sub_jwk submods
    sueids swname swversion title toe token_introspection trust_anchor_hints trust_mark_issuers trust_mark_owners
    trust_mark_type trust_marks txn ueid updated_at uptime vc vct verified_claims vot vp vtm website zoneinfo
    """.split()  # noqa: SIM905 -- 148 literals are harder to compare with the registry
)
"""The registered names; those that begin with a capital letter cannot be names of static claims anyway."""

Value = str | int | bool | list[str]

_NAME = re.compile(NAME_PATTERN)
_TEXT = re.compile("[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")


def check_name(name: str) -> str:
    """Return the name. Raises `ValueError` unless a static claim can have this name.

    The error quotes only reserved names, because any other text may be a value that was written in the wrong place.
    """
    if len(name) > MAX_NAME_LENGTH or _NAME.fullmatch(name) is None:
        raise ValueError(
            f"The name of a claim needs 1 to {MAX_NAME_LENGTH} characters of a-z, 0-9 and _ . : -, beginning with a "
            "letter, or is a URL like https://example.com/tenant"
        )
    if name in OWN or name == "keyturn" or name.startswith("keyturn:"):
        raise ValueError(f"{name} is a name that Keyturn uses itself. Choose another one, like https://example.com/x")
    if name in REGISTERED:
        raise ValueError(
            f"{name} is a registered claim (RFC 7519 section 4.1), whose meaning relying services know. Choose "
            f"another name, like https://example.com/{name}"
        )
    return name


def check_claims(claims: Mapping[str, object]) -> dict[str, Value]:
    """Return the static claims of a user. Raises `ValueError`, which quotes no value."""
    checked = {check_name(name): _check_value(value) for name, value in claims.items()}
    if len(encode(checked)) > MAX_BYTES:
        raise ValueError(f"The claims of a user have at most {MAX_BYTES} bytes as JSON in ASCII")
    return checked


def _check_value(value: object) -> Value:
    if isinstance(value, str) and _TEXT.fullmatch(value) is not None:
        return value
    if isinstance(value, int) and abs(value) <= MAX_WHOLE_NUMBER:  # true and false are of this type, too
        return value
    if isinstance(value, list) and all(isinstance(text, str) and _TEXT.fullmatch(text) for text in value):
        return list(value)
    raise ValueError(
        "The value of a claim is a text without control characters, a whole number, true, false, or a list of texts"
    )


def encode(claims: Mapping[str, Value]) -> str:
    """Return the claims as they are stored: equal claims give equal texts.

    `"NAME":` occurs in the text only where NAME is the name of a claim, because JSON escapes the quotation marks in
    values.
    """
    return json.dumps(claims, sort_keys=True, separators=(",", ":"))


def decode(stored: str) -> dict[str, Value]:
    claims: dict[str, Value] = {} if stored == "{}" else json.loads(stored)
    return claims


def read_json(text: str) -> dict[str, Value]:
    """Read a JSON object that an operator wrote. Raises `ValueError`."""
    try:
        claims = json.loads(text, object_pairs_hook=_unique_members)
    except (ValueError, RecursionError):
        claims = None
    if type(claims) is not dict:
        raise ValueError('The claims are a JSON object in which each name is given once, like \'{"tenant": "acme"}\'')
    return check_claims(claims)


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members
