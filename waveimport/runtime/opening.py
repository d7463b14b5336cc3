"""How a process opens a database that it writes to, and what tells its credentials from others."""

import hashlib
import random
from typing import Any

from waveimport.core.settings import Settings
from waveimport.runtime.single_flight import WriteLock
from waveimport.runtime.stop import StopSwitch
from waveimport.store.engine import sqlite_path
from waveimport.store.transactions import Database


def credential_fingerprint(settings: Settings) -> str:
    """Return what tells one set of credentials from another and reveals none of them."""
    netsuite = settings.netsuite
    parts = (
        netsuite.auth,
        netsuite.consumer_key,
        netsuite.consumer_secret,
        netsuite.token_id,
        netsuite.token_secret,
        netsuite.client_id,
        netsuite.certificate_id,
        netsuite.private_key,
        netsuite.algorithm,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def open_database(settings: Settings, *, switch: StopSwitch | None = None) -> Database:
    """Open the coordination database for writing, with the lock and the patience that this process has for it."""
    return open_url(settings.database.url, switch)


def open_url(url: str, switch: StopSwitch | None) -> Database:
    """Open another database for writing likewise: the destination, where it is not the same."""
    file = sqlite_path(url)
    how: dict[str, Any] = {"jitter": random.random}
    if file is not None:
        how["write_lock"] = WriteLock(file, stopped=lambda: switch is not None and switch.thrown is not None)
    if switch is not None:
        how["sleep"] = switch.sleep
    return Database.open(url, **how)
