"""Debts, written-off batches, the last reconciliation, the runs that share an account's limit, and quicker counts."""

from alembic import op
from sqlalchemy import inspect

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = {
    "wave_batches": {
        "owed": {"sqlite": "SMALLINT DEFAULT '0' NOT NULL", "mysql": "SMALLINT NOT NULL DEFAULT '0'"},
        "carried_by": {
            "sqlite": "VARCHAR(64)",
            "mysql": "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin",
        },
        "carried_as": {
            "sqlite": "VARCHAR(191)",
            "mysql": "VARCHAR(191) CHARACTER SET ascii COLLATE ascii_bin",
        },
        "skipped_at": {"sqlite": "DATETIME", "mysql": "DATETIME(6)"},
        "skip_reason": {"sqlite": "TEXT", "mysql": "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"},
    },
    "import_jobs": {"reconciled_at": {"sqlite": "DATETIME", "mysql": "DATETIME(6)"}},
}
INDEXES = {
    "batches_to_claim": ["job_id", "wave_number", "status", "priority", "batch_id", "not_before"],
    "batches_to_count": ["job_id", "wave_number", "record", "status", "row_count", "tries", "updated_at"],
}
ACCOUNT_RUNS = {
    "sqlite": """
CREATE TABLE IF NOT EXISTS account_runs (
    account VARCHAR(191) NOT NULL,
    owner VARCHAR(191) NOT NULL,
    job_id VARCHAR(64) NOT NULL,
    bound INTEGER NOT NULL,
    allowed INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    reason TEXT,
    changed_at DATETIME NOT NULL,
    expires_at DATETIME NOT NULL,
    PRIMARY KEY (account, owner)
)""",
    "mysql": """
CREATE TABLE IF NOT EXISTS account_runs (
    account VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    owner VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    job_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    bound INTEGER NOT NULL,
    allowed INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    reason LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    changed_at DATETIME(6) NOT NULL,
    expires_at DATETIME(6) NOT NULL,
    PRIMARY KEY (account, owner)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4""",
}


def upgrade() -> None:
    """Add what is missing: MySQL commits each DDL by itself, so an upgrade that was cut off is run again."""
    bind = op.get_bind()
    name = "sqlite" if bind.dialect.name == "sqlite" else "mysql"
    for table, columns in COLUMNS.items():
        there = {column["name"] for column in inspect(bind).get_columns(table)}
        for column, types in columns.items():
            if column not in there:
                bind.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} {types[name]}")
    bind.exec_driver_sql(ACCOUNT_RUNS[name])
    indexed = {index["name"]: index["column_names"] for index in inspect(bind).get_indexes("wave_batches")}
    for index, wanted in INDEXES.items():
        if indexed.get(index) == wanted:
            continue
        if index in indexed:
            bind.exec_driver_sql(f"DROP INDEX {index}" + ("" if name == "sqlite" else " ON wave_batches"))
        bind.exec_driver_sql(f"CREATE INDEX {index} ON wave_batches ({', '.join(wanted)})")
