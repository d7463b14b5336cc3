"""What is remembered of an account: a login that was refused, so that cron does not lock the user out.

NetSuite locks a user for 30 minutes after five failed logins (Oracle, "Troubleshooting Token-based Authentication").
A refusal is remembered by account and by a fingerprint of the credentials, so that new ones are tried at once.
"""

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from waveimport.store.dialect import after, now, upsert
from waveimport.store.tables import import_accounts

REMEMBERED_SECONDS = 30 * 60.0


def remember_refusal(connection: Connection, account: str, credential: str, reason: str) -> None:
    """Remember that these credentials were refused just now."""
    connection.execute(
        upsert(connection, import_accounts).values(
            account=account, credential=credential, refused_at=now(), reason=reason
        )
    )


def recent_refusal(connection: Connection, account: str, credential: str) -> str | None:
    """Return why these credentials were refused within the last 30 minutes, None when they were not."""
    return connection.execute(
        select(import_accounts.c.reason).where(
            import_accounts.c.account == account,
            import_accounts.c.credential == credential,
            import_accounts.c.refused_at > after(-REMEMBERED_SECONDS),
        )
    ).scalar()


def forget_refusal(connection: Connection, account: str, credential: str) -> None:
    """Forget a refusal: the credentials were accepted, or are asked again on purpose."""
    connection.execute(
        delete(import_accounts).where(import_accounts.c.account == account, import_accounts.c.credential == credential)
    )
