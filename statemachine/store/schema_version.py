"""Which version of the tables this program wants. Upgrading is Alembic's; asking is one cheap SELECT."""

from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from statemachine.errors import SchemaMismatch

REQUIRED: Final = "0007"
"""The head of `migrations/`; a test holds them together."""


def check(connection: Connection) -> None:
    """Raise SchemaMismatch, with what to do, unless the tables are of the version this program wants."""
    try:
        found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    except DBAPIError as error:
        raise SchemaMismatch("the database has no tables yet: run `ourvidz db upgrade`") from error
    if found != REQUIRED:
        raise SchemaMismatch(
            f"the database's tables are of version {found}, this program wants {REQUIRED}: run `ourvidz db upgrade` "
            "with the newest ourvidz"
        )
