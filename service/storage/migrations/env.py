"""The environment of Alembic, which runs this file; see the docstring of the package."""

import asyncio

from alembic import context
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from service.storage.migrations import ADVISORY_LOCK
from service.storage.postgresql_connect import connect_for_migration


def upgrade(connection: Connection) -> None:
    context.configure(connection=connection, transactional_ddl=True)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        context.run_migrations()


async def upgrade_postgresql(url: str) -> None:
    # Keyturn reads the URL itself, as when it serves. Each statement is unnamed and sent whole, because a pooler in
    # transaction mode may lend a connection on which another client has prepared a statement of the same name.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        connect_args={
            "async_creator_fn": lambda **_options: connect_for_migration(url),
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: "",
        },
    )
    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


url: str = context.config.attributes["url"]
if url.startswith("sqlite:///"):
    file = URL.create("sqlite", database=url.removeprefix("sqlite:///"))  # a folder's name may have any character
    # Python's driver begins no transaction for a CREATE TABLE. A crash could then leave half a migration.
    engine = create_engine(file, poolclass=NullPool, connect_args={"isolation_level": None})
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        upgrade(connection)
else:
    asyncio.run(upgrade_postgresql(url))
