"""The coordination tables as first released. The DDL is frozen beside this file; later versions change it by ALTER."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what is missing: MySQL commits each DDL by itself, so an upgrade that was cut off is run again."""
    name = "sqlite" if op.get_bind().dialect.name == "sqlite" else "mysql"
    script = Path(__file__).with_name(f"v0001_coordination.{name}.sql").read_text(encoding="utf-8")
    for statement in script.split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)
