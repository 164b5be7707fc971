"""Builds the part of this package: housekeeping and the metrics that only the database knows."""

from dataclasses import dataclass

from service.context import Context
from service.messages.part import MessagesPart
from service.operations.database_metrics import DatabaseMetrics
from service.operations.housekeeping import Housekeeping
from service.sessions.part import SessionsPart
from service.tokens.part import TokensPart
from service.users.part import UsersPart


@dataclass(frozen=True)
class OperationsPart:
    database_metrics: DatabaseMetrics
    housekeeping: Housekeeping


def make_operations(
    context: Context, tokens: TokensPart, messages: MessagesPart, users: UsersPart, sessions: SessionsPart
) -> OperationsPart:
    database_metrics = DatabaseMetrics(context.database)
    return OperationsPart(
        database_metrics=database_metrics,
        housekeeping=Housekeeping(
            clock=context.clock,
            database=context.database,
            keys=tokens.keys,
            ended=sessions.ended,
            events=messages.events,
            deliveries=messages.deliveries,
            database_metrics=database_metrics,
            policy=users.policy,
        ),
    )
