"""Builds the part of this package: sign-up, what users do with their account, what operators do."""

from dataclasses import dataclass

from service.accounts.accounts import Accounts
from service.accounts.administration import Administration
from service.accounts.own_factors import OwnFactors
from service.accounts.signup import SignUp
from service.context import Context
from service.factors.part import FactorsPart
from service.login.part import LoginPart
from service.messages.part import MessagesPart
from service.storage.page import Cursors
from service.users.part import UsersPart


@dataclass(frozen=True)
class AccountsPart:
    sign_up: SignUp
    accounts: Accounts
    own_factors: OwnFactors
    administration: Administration


def make_accounts(
    context: Context, messages: MessagesPart, users: UsersPart, factors: FactorsPart, login: LoginPart
) -> AccountsPart:
    clock, database, events = context.clock, context.database, messages.events
    second_factors = factors.second_factors
    return AccountsPart(
        sign_up=SignUp(
            clock=clock,
            database=database,
            throttle=context.throttle,
            passwords=users.passwords,
            password_policy=users.password_policy,
            second_factors=second_factors,
            enrolment=login.enrolment,
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
    )
