"""Bringing the database's tables to the version of this program."""

from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from statemachine.store.database import open_engine, transaction

_LOCK = 0x6F7572766964  # any number of our own, so that two upgrades at once do not meet


def upgrade(url: str) -> tuple[str | None, str | None]:
    """Upgrade to the head and return (version before, version now). Safe to run twice, and at once."""
    engine = open_engine(url)
    try:
        with as_file(files("ourvidz.migrations")) as folder, transaction(engine) as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            config = Config()
            config.set_main_option("script_location", str(folder))
            config.attributes["connection"] = connection
            before = MigrationContext.configure(connection).get_current_revision()
            command.upgrade(config, "head")
            after = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return before, after


def current(url: str) -> str | None:
    """The version of the database's tables, or None where there are none."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
