"""The tables of a study's store, under names that no other program in the same database has."""

import sqlalchemy as sa

metadata = sa.MetaData()
VERSION_TABLE = "promptgraft_version"
"""Where the schema's revision stands; Alembic's own name for it is taken wherever MLflow or Optuna keep tables."""

studies = sa.Table(
    "promptgraft_studies",
    metadata,
    sa.Column("study", sa.String(100), primary_key=True),
    sa.Column("spec", sa.JSON, nullable=False),
)
"""Each study's specification as it was last planned."""

facts = sa.Table(
    "promptgraft_facts",
    metadata,
    sa.Column("study", sa.String(100), primary_key=True),
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.String(64), nullable=False),
    sa.Column("files", sa.JSON, nullable=False),
)
"""Data, weights and prompts that a study began with."""

trials = sa.Table(
    "promptgraft_trials",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("owner", sa.String(200)),
    sa.Column("error", sa.Text),
    sa.Column("traceback", sa.Text),
)
"""Every trial of any study by its content key. State: pending, running (by `owner`), done or failed."""

members = sa.Table(
    "promptgraft_members",
    metadata,
    sa.Column("study", sa.String(100), primary_key=True),
    sa.Column("key", sa.String(64), sa.ForeignKey("promptgraft_trials.key"), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("labels", sa.JSON, nullable=False),
)
"""Which trials a study is made of, in which order, and what its tables call them."""

results = sa.Table(
    "promptgraft_results",
    metadata,
    sa.Column("key", sa.String(64), sa.ForeignKey("promptgraft_trials.key"), primary_key=True),
    sa.Column("result", sa.JSON, nullable=False),
    sa.Column("measured", sa.JSON, nullable=False),
    sa.Column("artefacts", sa.JSON, nullable=False),
)
"""What the trials that are done have made. `artefacts`: path inside the study's folder -> sha256."""


def alone(connection: sa.Connection) -> None:
    """Until the transaction ends, no other makes tables or plans a study; SQLite's writers queue up anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_QUEUE)))


_QUEUE = 0x9709A7
"""Number of the lock in PostgreSQL, which other programs should not use in the same database."""
