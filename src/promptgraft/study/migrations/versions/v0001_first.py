"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "promptgraft_studies",
        sa.Column("study", sa.String(100), primary_key=True),
        sa.Column("spec", sa.JSON, nullable=False),
    )
    op.create_table(
        "promptgraft_facts",
        sa.Column("study", sa.String(100), primary_key=True),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.String(64), nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
    )
    op.create_table(
        "promptgraft_trials",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("owner", sa.String(200)),
        sa.Column("error", sa.Text),
        sa.Column("traceback", sa.Text),
    )
    op.create_table(
        "promptgraft_members",
        sa.Column("study", sa.String(100), primary_key=True),
        sa.Column("key", sa.String(64), sa.ForeignKey("promptgraft_trials.key"), primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
    )
    op.create_table(
        "promptgraft_results",
        sa.Column("key", sa.String(64), sa.ForeignKey("promptgraft_trials.key"), primary_key=True),
        sa.Column("result", sa.JSON, nullable=False),
        sa.Column("measured", sa.JSON, nullable=False),
        sa.Column("artefacts", sa.JSON, nullable=False),
    )
