"""`migrations/` equals the declared tables, triggers, indexes and views, on both databases."""

import secrets
from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError

from ourvidz.migrate import current, upgrade
from statemachine import decisions
from statemachine.errors import SchemaMismatch
from statemachine.store import EventStore, open_store, triggers, views
from statemachine.store.database import open_engine
from statemachine.store.schema import metadata
from statemachine.store.schema_version import REQUIRED
from statemachine.store.views import completion_statistics
from tests.servers import _run, database_url
from tests.statemachine.builders import TYPE, live_through, new_job


def written(connection: Connection) -> set[tuple[str, str]]:
    """Indexes, triggers, functions and views as the database holds them."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type IN ('trigger', 'index', 'view') AND sql IS NOT NULL"
    else:
        query = (
            "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal "
            "UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
            "UNION ALL SELECT proname, prosrc FROM pg_proc WHERE proname LIKE '%append_only' "
            "UNION ALL SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'"
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
    assert views.SQL
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
    assert set(views.SQL) <= {name for name, _ in left}


def move(url: str, where: str) -> None:
    """Bring the database up or down to one version, as Alembic's own command does."""
    config = Config()
    config.set_main_option("script_location", str(files("ourvidz.migrations")))
    step = command.upgrade if where > (current(url)[0] or "") else command.downgrade
    engine = open_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        step(config, where)
    engine.dispose()


def test_a_database_of_the_first_version_is_brought_up_with_all_that_is_in_it(fresh_database: str) -> None:
    store = open_store(fresh_database)
    finished, waiting = live_through(store), new_job()
    store.admit([waiting])
    before = store.history(finished)
    move(fresh_database, "0001")
    with pytest.raises(SchemaMismatch, match="of version 0001"):
        store.check_schema()
    assert upgrade(fresh_database) == ("0001", REQUIRED)
    store.check_schema()
    assert store.history(finished) == before
    changed = {found.job_id: found.changed for found in store.rebuild()}
    assert changed == {finished: ("job_attempts",), waiting.job_id: ()}  # their device time is new
    assert [found.changed for found in store.rebuild()] == [(), ()]
    with store.read() as connection:
        (row,) = connection.execute(select(completion_statistics)).all()
    assert (row.job_id, row.user_id, row.job_type, row.reference_mode) == (finished, "u", TYPE, "start")
    assert (row.assets_generated, row.total_size_mb, row.completion_timestamp) == (2, 18 / 2**20, before[-1].at)
    move(fresh_database, "0001")
    with pytest.raises(DBAPIError), store.read() as connection:
        connection.execute(select(completion_statistics))
    assert store.history(finished) == before
    store.close()


def test_completion_statistics_tell_of_the_last_run_of_what_is_completed(store: EventStore) -> None:
    """A run in work has nothing to tell, and the one before it is no longer how the job stands."""
    job_id = live_through(store)
    job = store.load(job_id)
    store.append(job, decisions.requeue(job, by="me", reason="again"))
    with store.read() as connection:
        assert connection.execute(select(completion_statistics)).all() == []
    live_through(store, job_id, assets=1)
    with store.read() as connection:
        (row,) = connection.execute(select(completion_statistics)).all()
    assert (row.assets_generated, row.total_size_mb) == (1, 9 / 2**20)


def test_upgrading_twice_changes_nothing(fresh_database: str) -> None:
    assert upgrade(fresh_database) == (REQUIRED, REQUIRED)
    assert current(fresh_database) == (REQUIRED, REQUIRED)


def test_the_program_wants_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(files("ourvidz.migrations")))
    assert ScriptDirectory.from_config(config).get_current_head() == REQUIRED


def test_no_schema_and_an_older_one_are_sentences(tmp_path: Path, store: EventStore) -> None:
    empty = open_store(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    with pytest.raises(SchemaMismatch, match="no tables yet: run `ourvidz db upgrade`"):
        empty.check_schema()
    empty.close()
    store.check_schema()
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(SchemaMismatch, match=f"of version 0001, this program wants {REQUIRED}"):
        store.check_schema()
