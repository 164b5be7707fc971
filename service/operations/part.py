"""Builds the part of this package: housekeeping and the metrics that only the database knows."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from service.context import Context
from service.messages.part import MessagesPart
from service.operations import housekeeping
from service.operations.database_metrics import DatabaseMetrics
from service.operations.housekeeping import Housekeeping, Task
from service.sessions.part import SessionsPart
from service.tokens.part import TokensPart
from service.users.part import UsersPart


@dataclass(frozen=True)
class OperationsPart:
    database_metrics: DatabaseMetrics
    housekeeping: Housekeeping


def make_operations(
    context: Context,
    tokens: TokensPart,
    messages: MessagesPart,
    users: UsersPart,
    sessions: SessionsPart,
    remove_due_accounts: Callable[[], Awaitable[int]],
    remove_remains: Callable[[], Awaitable[None]],
) -> OperationsPart:
    """Make the part. The last two arguments are methods of `Deletions`; its package `accounts` is above this one."""
    clock, database_metrics = context.clock, DatabaseMetrics(context.database)
    tasks = [
        Task(remove_due_accounts, housekeeping.REMOVE_ACCOUNTS_INTERVAL_SECONDS),
        Task(remove_remains, housekeeping.REMOVE_REMAINS_INTERVAL_SECONDS),
        Task(database_metrics.count_factors, housekeeping.COUNT_FACTORS_INTERVAL_SECONDS),
    ]
    if messages.deliveries:
        interval = housekeeping.MEASURE_BACKLOGS_INTERVAL_SECONDS
        tasks.insert(0, Task(lambda: database_metrics.measure_backlogs(clock()), interval))
    return OperationsPart(
        database_metrics=database_metrics,
        housekeeping=Housekeeping(
            clock=context.clock,
            database=context.database,
            keys=tokens.keys,
            ended=sessions.ended,
            events=messages.events,
            deliveries=messages.deliveries,
            policy=users.policy,
            tasks=tasks,
        ),
    )
