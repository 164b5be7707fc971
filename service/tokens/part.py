"""Builds the part of this package: the codecs of the tokens of a login, the links, and the signing keys."""

from dataclasses import dataclass
from datetime import timedelta

from service.context import Context
from service.tokens.access import AccessCodec
from service.tokens.keys import LEAD, Keys
from service.tokens.links import Links
from service.tokens.pending import PendingCodec
from service.tokens.refresh import RefreshCodec
from service.tokens.tokens import Tokens


@dataclass(frozen=True)
class TokensPart:
    keys: Keys
    tokens: Tokens
    links: Links


def make_tokens(context: Context) -> TokensPart:
    settings, sealer = context.settings, context.sealer
    access_ttl = timedelta(seconds=settings.access_ttl)
    pending_ttl = timedelta(seconds=settings.mfa_pending_ttl)
    keys = Keys(
        context.database,
        sealer,
        algorithm=settings.signing_algorithm,
        access_ttl=access_ttl,
        lead=settings.key_lead or LEAD,
        rotate_after=timedelta(days=settings.key_rotation_days) if settings.key_rotation_days else None,
    )
    tokens = Tokens(
        access=AccessCodec(
            issuer=settings.issuer,
            audience=settings.token_audience,
            ttl=access_ttl,
            static_claims=settings.claims,
        ),
        pending=PendingCodec(issuer=settings.issuer, ttl=pending_ttl, keys=sealer.derive("mfa_pending")),
        refresh=RefreshCodec(sealer.derive("refresh")),
    )
    return TokensPart(keys=keys, tokens=tokens, links=Links(sealer))
