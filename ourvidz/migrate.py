"""Bringing the database's tables to the version of this program."""

from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from statemachine.store.database import open_engine, transaction
from statemachine.store.schema_version import REQUIRED, check, floor

_LOCK = 0x6F7572766964  # any number of our own, so that two upgrades at once do not meet


def upgrade(url: str) -> tuple[str | None, str | None]:
    """Upgrade to the head and return (version before, version now). Safe to run twice, and at once.

    Raises SchemaMismatch where the tables are newer than this program can work on.
    """
    engine = open_engine(url)
    try:
        with as_file(files("ourvidz.migrations")) as folder, transaction(engine) as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            config = Config()
            config.set_main_option("script_location", str(folder))
            config.attributes["connection"] = connection
            before = MigrationContext.configure(connection).get_current_revision()
            if before is not None and before > REQUIRED:
                check(connection)  # what a newer program made is left as it is
                return before, before
            command.upgrade(config, "head")
            after = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return before, after


def current(url: str) -> tuple[str | None, str | None]:
    """The version of the database's tables and its floor, if there are any. See `statemachine.store.schema_version`."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
            return found, floor(connection) if found is not None and found >= REQUIRED else None
    finally:
        engine.dispose()
