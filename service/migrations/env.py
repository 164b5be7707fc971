"""Alembic calls this file; see the package's docstring."""

import asyncio

from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from service.migrations import ADVISORY_LOCK


def upgrade(connection: Connection) -> None:
    context.configure(connection=connection, transactional_ddl=True)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        context.run_migrations()


async def upgrade_postgresql(url: str) -> None:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


url: str = context.config.attributes["url"]
if url.startswith("sqlite:///"):
    with create_engine(url, poolclass=NullPool).begin() as connection:
        upgrade(connection)
else:
    asyncio.run(upgrade_postgresql(url))
