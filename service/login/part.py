"""Builds the part of this package: login, step-up, enrolment, recovery, restore."""

from dataclasses import dataclass

from service.context import Context
from service.factors.part import FactorsPart
from service.login.admission import Admission
from service.login.enrolment import Enrolment
from service.login.login import Login
from service.login.pending import PendingTokens
from service.login.recovery import Recovery
from service.login.restore import Restore
from service.login.step_up import StepUp
from service.messages.part import MessagesPart
from service.sessions.part import SessionsPart
from service.tokens.part import TokensPart
from service.users.part import UsersPart


@dataclass(frozen=True)
class LoginPart:
    login: Login
    step_up: StepUp
    enrolment: Enrolment
    recovery: Recovery
    restore: Restore


def make_login(
    context: Context,
    tokens: TokensPart,
    messages: MessagesPart,
    users: UsersPart,
    sessions: SessionsPart,
    factors: FactorsPart,
) -> LoginPart:
    clock, database, events = context.clock, context.database, messages.events
    credentials, second_factors = users.credentials, factors.second_factors
    pending_tokens = PendingTokens(
        database=database, codec=tokens.tokens.pending, throttle=context.throttle, second_factors=second_factors
    )
    recovery = Recovery(
        clock=clock,
        database=database,
        credentials=credentials,
        second_factors=second_factors,
        events=events,
        delay=context.settings.recovery,
    )
    enrolment = Enrolment(
        clock=clock,
        database=database,
        credentials=credentials,
        second_factors=second_factors,
        pending_tokens=pending_tokens,
        events=events,
        policy=users.policy,
        totp_issuer=context.settings.totp_issuer,
    )
    admission = Admission(
        events=events,
        keys=tokens.keys,
        tokens=tokens.tokens,
        lifetimes=sessions.lifetimes,
        devices=users.devices,
        recovery=recovery,
    )
    login = Login(
        clock=clock,
        database=database,
        credentials=credentials,
        second_factors=second_factors,
        recovery=recovery,
        enrolment=enrolment,
        pending_tokens=pending_tokens,
        admission=admission,
    )
    restore = Restore(
        database=database,
        credentials=credentials,
        enrolment=enrolment,
        pending_tokens=pending_tokens,
        admission=admission,
    )
    step_up = StepUp(clock=clock, database=database, pending_tokens=pending_tokens, policy=users.policy)
    return LoginPart(login=login, step_up=step_up, enrolment=enrolment, recovery=recovery, restore=restore)
