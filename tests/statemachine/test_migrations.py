"""`migrations/` equals the declared tables, triggers and indexes, on both databases."""

import secrets
from importlib.resources import files
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from ourvidz.migrate import current, upgrade
from statemachine.errors import SchemaMismatch
from statemachine.store import EventStore, open_store, triggers
from statemachine.store.database import open_engine
from statemachine.store.schema import metadata
from statemachine.store.schema_version import REQUIRED
from tests.servers import _run, database_url


def written(connection: Connection) -> set[tuple[str, str]]:
    """Indexes, triggers and functions as the database holds them."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type IN ('trigger', 'index') AND sql IS NOT NULL"
    else:
        query = (
            "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal "
            "UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
            "UNION ALL SELECT proname, prosrc FROM pg_proc WHERE proname LIKE 'job_events%'"
        )
    rows = connection.execute(text(query)).all()
    return {(name, " ".join(sql.split())) for name, sql in rows if not name.startswith("alembic")}


def test_migrated_and_declared_tables_are_equal(
    fresh_database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if fresh_database.startswith("sqlite"):
        declared = f"sqlite:///{tmp_path / 'declared.sqlite'}"
    else:
        server = request.getfixturevalue("postgres_url")
        name = f"ovz_declared_{secrets.token_hex(4)}"
        _run(server, f"CREATE DATABASE {name}")
        declared = database_url(server, name)
    assert triggers.SQLITE
    engine = open_engine(declared)
    metadata.create_all(engine)
    migrated = open_engine(fresh_database)
    with engine.connect() as one, migrated.connect() as two:
        context = MigrationContext.configure(two, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        left, right = written(one), written(two)
    engine.dispose()
    migrated.dispose()
    assert left == right - {item for item in right if "alembic_version" in item[0]}


def test_upgrading_twice_changes_nothing(fresh_database: str) -> None:
    assert upgrade(fresh_database) == (REQUIRED, REQUIRED)
    assert current(fresh_database) == REQUIRED


def test_the_program_wants_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(files("ourvidz.migrations")))
    assert ScriptDirectory.from_config(config).get_current_head() == REQUIRED


def test_an_empty_and_an_other_schema_are_sentences(tmp_path: Path, store: EventStore) -> None:
    empty = open_store(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    with pytest.raises(SchemaMismatch, match="no tables yet: run `ourvidz db upgrade`"):
        empty.check_schema()
    empty.close()
    store.check_schema()
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="of version 9999, this program wants 0001"):
        store.check_schema()
