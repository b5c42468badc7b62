"""The store's schema over time: Alembic revisions, applied when a store is opened."""

from pathlib import Path

import sqlalchemy as sa

from promptgraft.errors import InputError
from promptgraft.study.schema import VERSION_TABLE, alone

HEAD = "0001"
"""The newest revision in `versions/`; a store that has it is used without loading Alembic."""


def upgrade(engine: sa.Engine, shown: str) -> None:
    """Bring a store to the newest schema; a new one is made from the first revision on.

    Args:
        engine: the store's.
        shown: its name for messages.

    Raises:
        InputError: the store was made by a newer promptgraft.
    """
    revision = _revision(engine)
    if revision == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    if revision is not None and revision not in {
        r.revision for r in ScriptDirectory.from_config(config).walk_revisions()
    }:
        raise InputError(
            f"store {shown} was made by a newer promptgraft (schema {revision}): pip install -U promptgraft."
        )
    with engine.begin() as connection:
        alone(connection)
        if _revision_of(connection) == HEAD:  # another driver was quicker
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(engine: sa.Engine) -> str | None:
    with engine.connect().execution_options(reads=True) as connection:
        return _revision_of(connection)


def _revision_of(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.select(sa.column("version_num")).select_from(sa.table(VERSION_TABLE))).scalar()
