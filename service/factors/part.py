"""Builds the part of this package: the second factor with its kinds."""

from dataclasses import dataclass

from service.context import Context
from service.factors.recovery_codes import RecoveryCodes
from service.factors.second_factor import SecondFactors
from service.factors.totp_authenticators import TotpAuthenticators
from service.messages.part import MessagesPart


@dataclass(frozen=True)
class FactorsPart:
    second_factors: SecondFactors


def make_factors(context: Context, messages: MessagesPart) -> FactorsPart:
    database, sealer, events = context.database, context.sealer, messages.events
    skew_steps = context.settings.totp_skew_steps
    return FactorsPart(
        second_factors=SecondFactors(
            TotpAuthenticators(database, context.ephemeral, sealer, events, skew_steps=skew_steps),
            RecoveryCodes(database, sealer, events),
        )
    )
