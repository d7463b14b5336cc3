"""What must hold of the coordination tables at every commit, asked in plain SQL: an oracle apart from the code.

Each rule selects what breaks it, and so nothing in a sound database. None of them is built from the statements or the
tables of the store, so that a mistake there is not made here again; they are the same on both databases. A rule holds
between any two transactions, also of a job that is at work or whose run was killed.
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.engine import Connection

_LIVE = "('dispatched', 'processing')"
_OPEN = "('pending', 'dispatched', 'processing')"
NAMED_AT_MOST = 5
"""Violations of one rule that are named; the first few tell the story."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`code` names it for ever, `says` is the fact that must hold, `sql` selects (job_id, wave_number, batch_id) of
    whatever breaks it, NULL for what has no part in it."""

    code: str
    says: str
    sql: str


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a rule does not hold; `wave_number` and `batch_id` are None where the rule is about more."""

    rule: Rule
    job_id: str
    wave_number: int | None
    batch_id: str | None

    def __str__(self) -> str:
        place = f"job {self.job_id}"
        if self.wave_number is not None:
            place += f", wave {self.wave_number}"
        if self.batch_id is not None:
            place += f", batch {self.batch_id}"
        return f"{self.rule.code}: it does not hold that {self.rule.says} ({place})"


RULES = (
    Rule(
        "one_unfinished_job",
        "at most one job of a profile is unfinished",
        "SELECT MAX(job_id), NULL, NULL FROM import_jobs WHERE status IN ('pending', 'processing')"
        " GROUP BY profile HAVING COUNT(*) > 1",
    ),
    Rule(
        "one_wave_a_number",
        "waves are numbered from 1 without a gap, each number once",
        "SELECT job_id, NULL, NULL FROM wave_coordination GROUP BY job_id"
        " HAVING COUNT(*) <> MAX(wave_number) OR MIN(wave_number) <> 1 OR COUNT(DISTINCT wave_number) <> COUNT(*)",
    ),
    Rule(
        "every_job_has_waves",
        "every job has its waves, made with it",
        "SELECT job_id, NULL, NULL FROM import_jobs j WHERE NOT EXISTS"
        " (SELECT 1 FROM wave_coordination w WHERE w.job_id = j.job_id)",
    ),
    Rule(
        "total_is_the_count",
        "the total of a wave is the number of its batches",
        "SELECT w.job_id, w.wave_number, NULL FROM wave_coordination w WHERE w.total <>"
        " (SELECT COUNT(*) FROM wave_batches b WHERE b.job_id = w.job_id AND b.wave_number = w.wave_number)",
    ),
    Rule(
        "every_batch_is_in_a_wave",
        "every batch is in a wave of its job",
        "SELECT b.job_id, b.wave_number, b.batch_id FROM wave_batches b WHERE NOT EXISTS"
        " (SELECT 1 FROM wave_coordination w WHERE w.job_id = b.job_id AND w.wave_number = b.wave_number)",
    ),
    Rule(
        "a_completed_wave_is_sealed",
        "a completed wave is sealed",
        "SELECT job_id, wave_number, NULL FROM wave_coordination WHERE status = 'completed' AND sealed <> 1",
    ),
    Rule(
        "a_completed_wave_is_done",
        "every batch of a completed wave is completed",
        "SELECT b.job_id, b.wave_number, b.batch_id FROM wave_batches b JOIN wave_coordination w"
        " ON w.job_id = b.job_id AND w.wave_number = b.wave_number"
        " WHERE w.status = 'completed' AND b.status <> 'completed'",
    ),
    Rule(
        "a_failed_wave_is_at_rest",
        "no batch of a failed wave can still move",
        "SELECT b.job_id, b.wave_number, b.batch_id FROM wave_batches b JOIN wave_coordination w"
        f" ON w.job_id = b.job_id AND w.wave_number = b.wave_number WHERE w.status = 'failed' AND b.status IN {_OPEN}",
    ),
    Rule(
        "a_failed_wave_has_a_cause",
        "a batch of a failed wave, or the wave of its parent, has failed",
        "SELECT w.job_id, w.wave_number, NULL FROM wave_coordination w WHERE w.status = 'failed' AND NOT EXISTS"
        " (SELECT 1 FROM wave_batches b WHERE b.job_id = w.job_id AND b.wave_number = w.wave_number"
        " AND b.status = 'failed') AND NOT EXISTS (SELECT 1 FROM wave_coordination p WHERE p.job_id = w.job_id"
        " AND p.wave_number = w.parent_wave AND p.status = 'failed')",
    ),
    Rule(
        "a_seal_follows_its_parent",
        "a derived wave is sealed only where the wave of its parent is completed",
        "SELECT w.job_id, w.wave_number, NULL FROM wave_coordination w LEFT JOIN wave_coordination p"
        " ON p.job_id = w.job_id AND p.wave_number = w.parent_wave"
        " WHERE w.kind = 'derived' AND w.sealed = 1 AND (p.status IS NULL OR p.status <> 'completed')",
    ),
    Rule(
        "a_main_wave_is_sealed_by_its_end",
        "a main wave is sealed only where it is completed",
        "SELECT job_id, wave_number, NULL FROM wave_coordination"
        " WHERE kind = 'main' AND sealed = 1 AND status <> 'completed'",
    ),
    Rule(
        "a_pending_wave_has_not_begun",
        "nothing of a pending wave was ever claimed but its planning",
        "SELECT b.job_id, b.wave_number, b.batch_id FROM wave_batches b JOIN wave_coordination w"
        " ON w.job_id = b.job_id AND w.wave_number = b.wave_number"
        " WHERE w.status = 'pending' AND b.kind <> 'plan' AND b.attempt > 0",
    ),
    Rule(
        "a_completed_job_is_done",
        "every wave of a completed job is completed",
        "SELECT w.job_id, w.wave_number, NULL FROM wave_coordination w JOIN import_jobs j ON j.job_id = w.job_id"
        " WHERE j.status = 'completed' AND w.status <> 'completed'",
    ),
    Rule(
        "a_failed_job_is_at_rest",
        "every wave of a failed job is settled",
        "SELECT w.job_id, w.wave_number, NULL FROM wave_coordination w JOIN import_jobs j ON j.job_id = w.job_id"
        " WHERE j.status = 'failed' AND w.status NOT IN ('completed', 'failed')",
    ),
    Rule(
        "a_failed_job_has_a_cause",
        "a batch of a failed job has failed",
        "SELECT j.job_id, NULL, NULL FROM import_jobs j WHERE j.status = 'failed' AND NOT EXISTS"
        " (SELECT 1 FROM wave_batches b WHERE b.job_id = j.job_id AND b.status = 'failed')",
    ),
    Rule(
        "an_ended_job_has_nothing_at_work",
        "nothing of a job that has ended is at work",
        "SELECT b.job_id, b.wave_number, b.batch_id FROM wave_batches b JOIN import_jobs j ON j.job_id = b.job_id"
        f" WHERE j.status IN ('completed', 'failed', 'cancelled') AND b.status IN {_LIVE}",
    ),
    Rule(
        "work_has_a_lease",
        "a batch has a lease, with owner and token, exactly while it is at work",
        "SELECT job_id, wave_number, batch_id FROM wave_batches"
        f" WHERE (status IN {_LIVE} AND (lease_expires_at IS NULL OR lease_owner IS NULL OR lease_token IS NULL))"
        f" OR (status NOT IN {_LIVE} AND (lease_expires_at IS NOT NULL OR lease_token IS NOT NULL))",
    ),
    Rule(
        "work_was_claimed",
        "a batch that is at work or has ended was claimed, and spent no more tries than it was claimed",
        "SELECT job_id, wave_number, batch_id FROM wave_batches"
        " WHERE (status <> 'pending' AND attempt < 1) OR tries > attempt OR tries < 0",
    ),
    Rule(
        "only_what_failed_is_owed",
        "only a failed batch is owed or skipped, and none both",
        "SELECT job_id, wave_number, batch_id FROM wave_batches"
        " WHERE (status <> 'failed' AND (owed <> 0 OR skipped_at IS NOT NULL))"
        " OR (owed <> 0 AND skipped_at IS NOT NULL)",
    ),
    Rule(
        "what_is_carried_is_there",
        "what a later job carries of a failed batch is a batch of that job, of the same record",
        "SELECT d.job_id, d.wave_number, d.batch_id FROM wave_batches d WHERE d.carried_as IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM wave_batches c WHERE c.job_id = d.carried_by AND c.batch_id = d.carried_as"
        " AND c.record = d.record)",
    ),
    Rule(
        "tokens_only_grow",
        "no batch is at work under a token that its job has not given out yet",
        "SELECT b.job_id, b.wave_number, b.batch_id FROM wave_batches b JOIN import_jobs j ON j.job_id = b.job_id"
        " WHERE b.lease_token > j.lease_token",
    ),
    Rule(
        "a_free_lease_leaves_no_work",
        "nothing is at work under the token of a lease that was given back",
        "SELECT b.job_id, b.wave_number, b.batch_id FROM wave_batches b JOIN import_jobs j ON j.job_id = b.job_id"
        " WHERE j.lease_owner IS NULL AND b.lease_token = j.lease_token",
    ),
    Rule(
        "the_journal_is_whole",
        "the journal of a job is numbered from 1 to its last entry without a gap",
        "SELECT j.job_id, NULL, NULL FROM import_jobs j LEFT JOIN wave_journal e ON e.job_id = j.job_id"
        " GROUP BY j.job_id, j.journal_seq"
        " HAVING COUNT(e.seq) <> j.journal_seq OR COALESCE(MAX(e.seq), 0) <> j.journal_seq",
    ),
    Rule(
        "the_journal_knows_one_holder",
        "the tokens of a journal never go back",
        "SELECT a.job_id, NULL, NULL FROM wave_journal a JOIN wave_journal b"
        " ON b.job_id = a.job_id AND b.seq = a.seq + 1 WHERE b.token < a.token",
    ),
)


def violations(connection: Connection, *, job_id: str | None = None) -> list[Violation]:
    """Return what breaks the rules, of one job or of all: at most a few places a rule, in the order of RULES."""
    found: list[Violation] = []
    for rule in RULES:
        rows = [row for row in connection.execute(text(rule.sql)) if job_id in (None, row[0])]
        found += [
            Violation(
                rule, str(row[0]), None if row[1] is None else int(row[1]), None if row[2] is None else str(row[2])
            )
            for row in rows[:NAMED_AT_MOST]
        ]
    return found
