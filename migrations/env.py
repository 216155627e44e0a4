"""Alembic's entry: run the migrations on the connection that was handed over, or on alembic.ini's URL."""

from alembic import context
from sqlalchemy import Connection

from statemachine.store import triggers, views
from statemachine.store.database import open_engine
from statemachine.store.schema import metadata

assert triggers.SQLITE, "the triggers belong to the tables"
assert views.SQL, "and so do the views"


def run(connection: Connection) -> None:
    """Run what is missing, in one transaction."""
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = context.config.get_main_option("sqlalchemy.url")
    assert url is not None
    with open_engine(url).connect() as opened:
        run(opened)
        opened.commit()
