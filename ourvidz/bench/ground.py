"""Where a false year may stand: in an empty database, or in one that holds nothing but false jobs."""

from sqlalchemy import Connection, Engine, inspect, select

from ourvidz.bench.errands import SOURCE
from ourvidz.masking import mask
from ourvidz.migrate import upgrade
from statemachine.store.database import open_engine, reading
from statemachine.store.schema import dead_letters, jobs, workers


class NotOurs(Exception):
    """The database is somebody's. One sentence says by what that shows."""


def prepare(url: str) -> None:
    """Make the tables in an empty database, or bring our own up to date. Raises NotOurs for any other."""
    engine = open_engine(url)
    try:
        why = _somebodys(engine)
    finally:
        engine.dispose()
    if why is not None:
        raise NotOurs(f"{mask(url)} {why}: false jobs go into an empty database, or into one that holds no others")
    upgrade(url)


def _somebodys(engine: Engine) -> str | None:
    with reading(engine) as connection:
        tables = inspect(connection).get_table_names()
        if not tables:
            return None
        if jobs.name not in tables:
            return f"has a table {tables[0]}"
        return _used(connection)


def _used(connection: Connection) -> str | None:
    real = connection.scalar(select(jobs.c.id).where(jobs.c.source != SOURCE).limit(1))
    if real is not None:
        return f"holds job {real}"
    for table, what in ((workers, "has had workers"), (dead_letters, "holds dead letters")):
        if connection.execute(select(table).limit(1)).first() is not None:
            return what
    return None
