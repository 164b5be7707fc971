"""Alembic calls this file; see the package's docstring."""

import asyncio

from alembic import context
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from service.database_postgresql import dial
from service.migrations import ADVISORY_LOCK


def upgrade(connection: Connection) -> None:
    context.configure(connection=connection, transactional_ddl=True)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        context.run_migrations()


async def upgrade_postgresql(url: str) -> None:
    # The driver reads the URL, as it does when serving: SQLAlchemy would read some of its options otherwise.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: dial(url), poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


url: str = context.config.attributes["url"]
if url.startswith("sqlite:///"):
    file = URL.create("sqlite", database=url.removeprefix("sqlite:///"))  # a folder's name may have any character
    # Python's driver would begin no transaction for a CREATE TABLE, and a crash could leave half a migration.
    engine = create_engine(file, poolclass=NullPool, connect_args={"isolation_level": None})
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        upgrade(connection)
else:
    asyncio.run(upgrade_postgresql(url))
