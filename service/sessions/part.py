"""Builds the part of this package: bearer authentication, grants, registered clients."""

from dataclasses import dataclass
from datetime import timedelta

from service.context import Context
from service.messages.part import MessagesPart
from service.sessions.bearers import BearerAuth, EndedSessions
from service.sessions.grants import Grants
from service.sessions.registration import Clients
from service.sessions.sessions import Lifetimes
from service.storage.page import Cursors
from service.tokens.part import TokensPart
from service.users.part import UsersPart


@dataclass(frozen=True)
class SessionsPart:
    lifetimes: Lifetimes
    ended: EndedSessions
    bearer_auth: BearerAuth
    grants: Grants
    clients: Clients


def make_sessions(context: Context, tokens: TokensPart, messages: MessagesPart, users: UsersPart) -> SessionsPart:
    settings = context.settings
    lifetimes = Lifetimes(timedelta(seconds=settings.refresh_ttl), timedelta(seconds=settings.refresh_idle_ttl))
    ended = EndedSessions(context.database, access_ttl=timedelta(seconds=settings.access_ttl))
    return SessionsPart(
        lifetimes=lifetimes,
        ended=ended,
        bearer_auth=BearerAuth(
            clock=context.clock,
            database=context.database,
            keys=tokens.keys,
            tokens=tokens.tokens.access,
            ended=ended,
            policy=users.policy,
        ),
        grants=Grants(
            clock=context.clock,
            database=context.database,
            events=messages.events,
            keys=tokens.keys,
            tokens=tokens.tokens,
            session_idle=lifetimes.idle,
            policy=users.policy,
        ),
        clients=Clients(
            clock=context.clock,
            database=context.database,
            events=messages.events,
            cursors=Cursors(context.sealer, "clients"),
        ),
    )
