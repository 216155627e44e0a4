"""Which version of the tables this program wants. Upgrading is Alembic's; asking is one cheap SELECT.

Versions are numbers of four digits, so that text compares as they do. Tables may be newer than a program wants, while
`schema_floor` names a version that is not: a migration that only adds what an older program need not know leaves the
floor where it is, any other raises it to its own version.
"""

from typing import Final

from sqlalchemy import Column, Connection, Integer, Table, Text, select, text
from sqlalchemy.exc import DBAPIError

from statemachine.errors import SchemaMismatch
from statemachine.store.schema import metadata

REQUIRED: Final = "0008"
"""The head of `migrations/`; a test holds them together."""

schema_floor: Final = Table(
    "schema_floor",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", Text, nullable=False),
)


def check(connection: Connection) -> None:
    """Raise SchemaMismatch, with what to do, unless this program can work on the tables as they are."""
    try:
        found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    except DBAPIError as error:
        raise SchemaMismatch("the database has no tables yet: run `ourvidz db upgrade`") from error
    refuse(None if found is None else str(found), floor(connection) if found and found > REQUIRED else None)


def floor(connection: Connection) -> str | None:
    """The oldest version that a program may want and still work on these tables."""
    return connection.scalar(select(schema_floor.c.version))


def refuse(found: str | None, floor: str | None) -> None:
    """Raise SchemaMismatch unless tables of version `found` with that floor will do."""
    if found == REQUIRED or (found is not None and floor is not None and floor <= REQUIRED < found):
        return
    if found is not None and found > REQUIRED:
        raise SchemaMismatch(
            f"the database's tables are of version {found} and want a program for {floor or found} or later, "
            f"this one is for {REQUIRED}: run a newer ourvidz"
        )
    raise SchemaMismatch(
        f"the database's tables are of version {found}, this program wants {REQUIRED}: run `ourvidz db upgrade`"
    )
