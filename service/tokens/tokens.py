"""The tokens of a login and its session, together: each kind with its own writer, reader and key."""

from dataclasses import dataclass

from service.tokens.access import AccessCodec
from service.tokens.pending import PendingCodec
from service.tokens.refresh import RefreshCodec


@dataclass(frozen=True, slots=True)
class Tokens:
    """The kinds of token that one issuer writes and reads for a login and its session."""

    access: AccessCodec
    pending: PendingCodec
    refresh: RefreshCodec
