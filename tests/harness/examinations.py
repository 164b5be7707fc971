"""Examinations of a deployment by `keyturn doctor`, in this process."""

from functools import partial
from typing import Any

from service.clock import system_clock
from service.operations.doctor import Doctor, Finding
from service.settings import Settings
from service.storage.connecting import connect_database
from service.storage.ephemeral_redis import Redis
from tests.harness.databases import PATIENT_SECONDS


async def examine(settings: Settings, clock: Any = system_clock, **more: Any) -> list[Finding]:
    database = connect_database(settings.resolved_database_url, read_only=True, timeout=PATIENT_SECONDS)
    more.setdefault("connect_redis", partial(Redis, timeout=PATIENT_SECONDS))
    return [finding async for finding in Doctor(settings, database, clock, **more).examine()]


def findings_with(findings: list[Finding], word: str) -> list[Finding]:
    return [finding for finding in findings if word in finding.what]
