"""A job put into a support bundle, with what tells where it came from."""

import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from waveimport import __version__
from waveimport.core.settings import RunSettings
from waveimport.core.waves import DECISION_VERSION
from waveimport.store.bundle import write_bundle
from waveimport.store.transactions import Database


def bundle_job(database: Database, job_id: str, path: Path, run: RunSettings) -> None:
    """Write a bundle of a job, with versions and the thresholds of its alerts. Raises UnknownJob and FileExists."""
    facts = {
        "waveimport": __version__,
        "decision_version": str(DECISION_VERSION),
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "database": database.engine.dialect.name,
        "run": json.dumps(asdict(run)),
    }
    write_bundle(database, job_id, path, facts)
