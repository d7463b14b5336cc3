"""The runs of one database that ask the same account, so that they share its limit of requests.

Each run keeps a row of its own, which lapses with it. The truth is the account's own 429s; the rows only spare them to
runs that can know of each other.
"""

from collections.abc import Collection

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from waveimport.core.limits import Limits
from waveimport.store.dialect import after, now, upsert
from waveimport.store.tables import account_runs


def tell(
    connection: Connection, account: str, owner: str, job_id: str, limits: Limits, reason: str | None, *, seconds: float
) -> None:
    """Write a run's row, which lapses after so many seconds."""
    connection.execute(
        upsert(connection, account_runs).values(
            account=account,
            owner=owner,
            job_id=job_id,
            bound=limits.configured,
            allowed=limits.allowed,
            in_flight=limits.in_flight,
            reason=reason,
            changed_at=now(),
            expires_at=after(seconds),
        )
    )


def owners(connection: Connection, account: str) -> list[str]:
    """Return the runs whose rows have not lapsed, in one order for all of them."""
    rows = connection.execute(
        select(account_runs.c.owner)
        .where(account_runs.c.account == account, account_runs.c.expires_at > now())
        .order_by(account_runs.c.owner)
    )
    return list(rows.scalars())


def lapsed(connection: Connection, account: str) -> list[str]:
    """Return the runs whose rows have lapsed."""
    rows = connection.execute(
        select(account_runs.c.owner)
        .where(account_runs.c.account == account, account_runs.c.expires_at <= now())
        .order_by(account_runs.c.owner)
    )
    return list(rows.scalars())


def forget(connection: Connection, account: str, owners: Collection[str]) -> None:
    """Delete the rows of runs that have ended."""
    for owner in sorted(owners):
        connection.execute(delete(account_runs).where(account_runs.c.account == account, account_runs.c.owner == owner))


def told(connection: Connection, job_id: str) -> tuple[str, int, int, int, str | None] | None:
    """Return (account, configured, allowed, in flight, reason) as the run at work on a job last told; None where none
    is."""
    row = connection.execute(
        select(account_runs)
        .where(account_runs.c.job_id == job_id, account_runs.c.expires_at > now())
        .order_by(account_runs.c.changed_at.desc())
        .limit(1)
    ).first()
    return None if row is None else (row.account, row.bound, row.allowed, row.in_flight, row.reason)
