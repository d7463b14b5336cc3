"""A situation met again is counted on its entry of the journal; a batch says when it was claimed and what it asked.

What was completed a while ago is counted on its wave, and what was completed of late is found by its time.
"""

from alembic import op
from sqlalchemy import inspect

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = {
    "import_jobs": {
        "pass_seq": {"sqlite": "BIGINT DEFAULT '0' NOT NULL", "mysql": "BIGINT NOT NULL DEFAULT '0'"},
    },
    "wave_batches": {
        "claimed_at": {"sqlite": "DATETIME", "mysql": "DATETIME(6)"},
        "requests": {"sqlite": "BIGINT DEFAULT '0' NOT NULL", "mysql": "BIGINT NOT NULL DEFAULT '0'"},
        "request_ms": {"sqlite": "BIGINT DEFAULT '0' NOT NULL", "mysql": "BIGINT NOT NULL DEFAULT '0'"},
    },
    "wave_coordination": {
        "counted_until": {"sqlite": "DATETIME", "mysql": "DATETIME(6)"},
        "counted": {"sqlite": "TEXT", "mysql": "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"},
    },
    "wave_journal": {
        "situation": {"sqlite": "VARCHAR(32)", "mysql": "VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin"},
        "repeats": {"sqlite": "BIGINT DEFAULT '0' NOT NULL", "mysql": "BIGINT NOT NULL DEFAULT '0'"},
        "repeated_at": {"sqlite": "DATETIME", "mysql": "DATETIME(6)"},
    },
}
INDEX = "journal_by_situation"
COUNTS = "batches_to_count"
COUNTED = ["job_id", "wave_number", "record", "status", "updated_at", "row_count", "tries"]


def upgrade() -> None:
    """Add what is missing: MySQL commits each DDL by itself, so an upgrade that was cut off is run again."""
    bind = op.get_bind()
    name = "sqlite" if bind.dialect.name == "sqlite" else "mysql"
    for table, columns in COLUMNS.items():
        there = {column["name"] for column in inspect(bind).get_columns(table)}
        for column, types in columns.items():
            if column not in there:
                bind.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} {types[name]}")
    if INDEX not in {index["name"] for index in inspect(bind).get_indexes("wave_journal")}:
        bind.exec_driver_sql(f"CREATE INDEX {INDEX} ON wave_journal (job_id, token, situation)")
    indexed = {index["name"]: index["column_names"] for index in inspect(bind).get_indexes("wave_batches")}
    if indexed.get(COUNTS) != COUNTED:
        if COUNTS in indexed:
            bind.exec_driver_sql(f"DROP INDEX {COUNTS}" + ("" if name == "sqlite" else " ON wave_batches"))
        bind.exec_driver_sql(f"CREATE INDEX {COUNTS} ON wave_batches ({', '.join(COUNTED)})")
    # The newest pass on record of each job that is at work, by which the next one knows whether it repeats it.
    bind.exec_driver_sql(
        "UPDATE import_jobs SET pass_seq = COALESCE((SELECT MAX(seq) FROM wave_journal WHERE wave_journal.job_id ="
        " import_jobs.job_id AND event = 'pass'), 0)"
    )
