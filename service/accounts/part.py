"""Builds the part of this package: sign-up, what users do with their accounts, administration."""

from dataclasses import dataclass
from datetime import timedelta

from service.accounts.accounts import Accounts
from service.accounts.administration import Administration
from service.accounts.deletions import Deletions
from service.accounts.emails import Emails
from service.accounts.exports import Exports
from service.accounts.fresh import FreshProof
from service.accounts.invitations import Invitations
from service.accounts.own_factors import OwnFactors
from service.accounts.password_resets import PasswordResets
from service.accounts.signup import SignUp
from service.accounts.user_sessions import UserSessions
from service.context import Context
from service.factors.part import FactorsPart
from service.login.part import LoginPart
from service.messages.part import MessagesPart
from service.storage.page import Cursors
from service.tokens.part import TokensPart
from service.users.part import UsersPart


@dataclass(frozen=True)
class AccountsPart:
    sign_up: SignUp
    accounts: Accounts
    own_factors: OwnFactors
    administration: Administration
    deletions: Deletions
    user_sessions: UserSessions
    emails: Emails
    exports: Exports
    invitations: Invitations
    password_resets: PasswordResets


def make_accounts(
    context: Context,
    tokens: TokensPart,
    messages: MessagesPart,
    users: UsersPart,
    factors: FactorsPart,
    login: LoginPart,
) -> AccountsPart:
    clock, database, events = context.clock, context.database, messages.events
    second_factors = factors.second_factors
    fresh = FreshProof(clock=clock, database=database, credentials=users.credentials)
    invitations = Invitations(
        database=database,
        events=events,
        links=tokens.links,
        cursors=Cursors(context.sealer, "invitations"),
        page_url=context.settings.resolved_page_url,
    )
    return AccountsPart(
        sign_up=SignUp(
            clock=clock,
            database=database,
            throttle=context.throttle,
            passwords=users.passwords,
            password_policy=users.password_policy,
            enrolment=login.enrolment,
            invitations=invitations,
            events=events,
        ),
        accounts=Accounts(
            clock=clock,
            database=database,
            passwords=users.passwords,
            password_policy=users.password_policy,
            events=events,
            credentials=users.credentials,
            policy=users.policy,
        ),
        own_factors=OwnFactors(
            clock=clock,
            database=database,
            credentials=users.credentials,
            second_factors=second_factors,
            events=events,
        ),
        administration=Administration(
            clock=clock,
            database=database,
            passwords=users.passwords,
            password_policy=users.password_policy,
            second_factors=second_factors,
            events=events,
            policy=users.policy,
            cursors=Cursors(context.sealer, "accounts"),
        ),
        deletions=Deletions(
            clock=clock,
            database=database,
            fresh=fresh,
            second_factors=second_factors,
            events=events,
            delay=timedelta(seconds=context.settings.deletion_delay),
        ),
        exports=Exports(clock=clock, database=database, events=events),
        user_sessions=UserSessions(clock=clock, database=database, events=events, policy=users.policy),
        emails=Emails(
            clock=clock,
            database=database,
            throttle=context.throttle,
            credentials=users.credentials,
            fresh=fresh,
            events=events,
            links=tokens.links,
        ),
        invitations=invitations,
        password_resets=PasswordResets(
            clock=clock,
            database=database,
            throttle=context.throttle,
            passwords=users.passwords,
            password_policy=users.password_policy,
            events=events,
            links=tokens.links,
            page_url=context.settings.resolved_page_url,
        ),
    )
