"""The coordination tables, for both databases.

Names, keys and checks are public: dashboards read them. `schema.sql` at the top of the project is their DDL and a
test holds the two equal. There are no foreign keys between them: a child's insert would lock its parent's row, and
the job row is the lock of coordination (three of three runs dead-locked).

Times are UTC with microseconds: DATETIME(6) on MySQL, ISO text on SQLite.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

metadata = MetaData()

# Ids are compared byte by byte on both databases; ASCII keeps their indexes within every row format's width.
_ID = String(191).with_variant(mysql.VARCHAR(191, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
_JOB_ID = String(64).with_variant(mysql.VARCHAR(64, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
_NAME = String(191).with_variant(mysql.VARCHAR(191, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
_WORD = String(32).with_variant(mysql.VARCHAR(32, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
_HASH = String(64).with_variant(mysql.VARCHAR(64, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
_TIME = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_LONG = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
_AUTO = BigInteger().with_variant(Integer(), "sqlite")

_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_default_charset": "utf8mb4"}

import_jobs = Table(
    "import_jobs",
    metadata,
    Column("job_id", _JOB_ID, primary_key=True),
    Column("profile", _NAME, nullable=False),
    Column("mode", _WORD, nullable=False),
    Column("selection", _LONG),
    Column("as_of", _TIME),
    Column("config_hash", _HASH, nullable=False),
    Column("config_text", _LONG, nullable=False),
    Column("status", _WORD, nullable=False),
    Column("coordination_status", _WORD, nullable=False),
    Column("idle_passes", BigInteger, nullable=False, server_default="0"),
    Column("journal_seq", BigInteger, nullable=False, server_default="0"),
    Column("lease_owner", _NAME),
    Column("lease_token", BigInteger, nullable=False, server_default="0"),
    Column("lease_expires_at", _TIME),
    Column("lease_machine", _NAME),
    Column("lease_lock", _NAME),
    Column("created_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("finished_at", _TIME),
    Column("error", _LONG),
    Column("reconciled_at", _TIME),
    # The entry of the journal that records the newest pass: one that meets it again moves nothing.
    Column("pass_seq", BigInteger, nullable=False, server_default="0"),
    # At most one job of a profile is unfinished, and this key is what holds it: without it 14 of 20 simultaneous
    # starts left two jobs. MySQL has no partial index, so the column is NULL (which never collides) once finished.
    Column(
        "unfinished_profile",
        _NAME,
        Computed("CASE WHEN status IN ('pending', 'processing') THEN profile END", persisted=True),
    ),
    UniqueConstraint("unfinished_profile", name="one_unfinished_job"),
    CheckConstraint("status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')", name="job_status"),
    CheckConstraint("coordination_status IN ('none', 'planning', 'planned')", name="job_coordination_status"),
    CheckConstraint("(lease_owner IS NULL) = (lease_expires_at IS NULL)", name="job_lease"),
    Index("jobs_of_profile", "profile", "created_at"),
    **_OPTIONS,
)

wave_coordination = Table(
    "wave_coordination",
    metadata,
    Column("id", _AUTO, primary_key=True, autoincrement=True),
    Column("job_id", _JOB_ID, nullable=False),
    Column("wave_number", Integer, nullable=False),
    Column("kind", _WORD, nullable=False),
    Column("status", _WORD, nullable=False),
    Column("sealed", SmallInteger, nullable=False, server_default="0"),
    Column("records", _LONG, nullable=False),
    Column("parent_wave", Integer),
    Column("depth", Integer, nullable=False, server_default="0"),
    Column("total", BigInteger, nullable=False, server_default="0"),
    # What was completed until then, by record: `status` counts only what came after.
    Column("counted_until", _TIME),
    Column("counted", _LONG),
    Column("created_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    UniqueConstraint("job_id", "wave_number", name="unique_job_wave"),
    CheckConstraint("kind IN ('main', 'derived')", name="wave_kind"),
    CheckConstraint("status IN ('pending', 'processing', 'completed', 'failed')", name="wave_status"),
    CheckConstraint("sealed IN (0, 1)", name="wave_sealed"),
    CheckConstraint("status <> 'completed' OR sealed = 1", name="completed_wave_is_sealed"),
    CheckConstraint("(kind = 'derived') = (parent_wave IS NOT NULL)", name="derived_wave_has_parent"),
    **_OPTIONS,
)

wave_batches = Table(
    "wave_batches",
    metadata,
    Column("job_id", _JOB_ID, primary_key=True),
    Column("batch_id", _ID, primary_key=True),
    Column("wave_number", Integer, nullable=False),
    Column("record", _NAME, nullable=False),
    Column("kind", _WORD, nullable=False),
    # Planning goes before fetching within a wave: ranges can only be fetched once they are made.
    Column("priority", SmallInteger, nullable=False, server_default="1"),
    Column("status", _WORD, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("lost", Integer, nullable=False, server_default="0"),
    Column("not_before", _TIME),
    Column("lease_owner", _NAME),
    Column("lease_token", BigInteger),
    Column("lease_expires_at", _TIME),
    Column("spec", _LONG, nullable=False),
    Column("resume_key", _LONG),
    Column("row_count", BigInteger, nullable=False, server_default="0"),
    Column("created_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("error", _LONG),
    # A failed batch is owed once the watermark has gone beyond it: a later job carries it, as a batch of its own.
    Column("owed", SmallInteger, nullable=False, server_default="0"),
    Column("carried_by", _JOB_ID),
    Column("carried_as", _ID),
    Column("skipped_at", _TIME),
    Column("skip_reason", _LONG),
    Column("claimed_at", _TIME),
    # What the source was asked, by the pages that landed: how often, and how long it took together.
    Column("requests", BigInteger, nullable=False, server_default="0"),
    Column("request_ms", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("kind IN ('plan', 'range', 'parents')", name="batch_kind"),
    CheckConstraint("status IN ('pending', 'dispatched', 'processing', 'completed', 'failed')", name="batch_status"),
    # Nothing dispatched can be without a lease, so nothing dispatched can be forgotten.
    CheckConstraint("(status IN ('dispatched', 'processing')) = (lease_expires_at IS NOT NULL)", name="batch_lease"),
    CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="failed_batch_says_why"),
    # `not_before` makes it all that a claim, or the count of what can be claimed, looks at.
    Index("batches_to_claim", "job_id", "wave_number", "status", "priority", "batch_id", "not_before"),
    # All that `status` counts, where reading the rows themselves takes ten times as long; by time within a status, so
    # that what was completed of late is found at once.
    Index("batches_to_count", "job_id", "wave_number", "record", "status", "updated_at", "row_count", "tries"),
    Index("batches_to_requeue", "job_id", "status", "lease_expires_at"),
    **_OPTIONS,
)

wave_journal = Table(
    "wave_journal",
    metadata,
    Column("job_id", _JOB_ID, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", _TIME, nullable=False),
    Column("source", _WORD, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("event", _WORD, nullable=False),
    Column("snapshot", _LONG),
    Column("decision", _LONG),
    Column("note", _LONG),
    Column("decision_version", Integer, nullable=False),
    Column("code_version", _WORD, nullable=False),
    # A pass that moves nothing, and how often passes of its token met it again: a job of a million batches meets a
    # few thousand situations.
    Column("situation", _WORD),
    Column("repeats", BigInteger, nullable=False, server_default="0"),
    Column("repeated_at", _TIME),
    Index("journal_by_situation", "job_id", "token", "situation"),
    **_OPTIONS,
)

batch_events = Table(
    "batch_events",
    metadata,
    Column("id", _AUTO, primary_key=True, autoincrement=True),
    Column("job_id", _JOB_ID, nullable=False),
    Column("batch_id", _ID, nullable=False),
    Column("at", _TIME, nullable=False),
    Column("event", _WORD, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("detail", _LONG),
    Index("events_of_batch", "job_id", "batch_id"),
    **_OPTIONS,
)

import_watermarks = Table(
    "import_watermarks",
    metadata,
    Column("profile", _NAME, primary_key=True),
    Column("record", _NAME, primary_key=True),
    Column("watermark", _TIME, nullable=False),
    Column("job_id", _JOB_ID),
    Column("updated_at", _TIME, nullable=False),
    **_OPTIONS,
)

import_accounts = Table(
    "import_accounts",
    metadata,
    Column("account", _NAME, primary_key=True),
    Column("credential", _WORD, primary_key=True),
    Column("refused_at", _TIME, nullable=False),
    Column("reason", _LONG, nullable=False),
    **_OPTIONS,
)

# The runs at work on an account, so that those of one database share its limit.
account_runs = Table(
    "account_runs",
    metadata,
    Column("account", _NAME, primary_key=True),
    Column("owner", _NAME, primary_key=True),
    Column("job_id", _JOB_ID, nullable=False),
    Column("bound", Integer, nullable=False),
    Column("allowed", Integer, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("reason", _LONG),
    Column("changed_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=False),
    **_OPTIONS,
)

import_columns = Table(
    "import_columns",
    metadata,
    Column("profile", _NAME, primary_key=True),
    Column("table_name", _NAME, primary_key=True),
    Column("column_name", _NAME, primary_key=True),
    # The database of the table, without user and password; empty for the one that this table is in.
    Column("destination", _LONG, nullable=False),
    Column("source_name", _NAME, nullable=False),
    Column("type", _WORD, nullable=False),
    **_OPTIONS,
)
