"""What cron or systemd has to know of a configuration to run it: read without any of its secrets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from waveimport.core.schedule import Job, check_words
from waveimport.core.settings import Settings, parse_settings
from waveimport.core.settings_reader import has_placeholder
from waveimport.runtime.config import ConfigFile, find_config
from waveimport.runtime.database_url import is_sqlite

ENVIRONMENT_FILE: Final = "waveimport.env"
"""Beside the configuration, where no other is named."""
_LOCAL: Final = ("localhost", "127.0.0.1", "::1", None)


def scheduled_job(
    path: Path | None,
    environ: Mapping[str, str],
    program: Sequence[str],
    options: Sequence[str],
    *,
    user: str | None,
    environment_file: Path | None,
) -> Job:
    """Return the run of a configuration by cron or systemd: `program` with `options` behind `run`.

    Raises ConfigMissing, BadToml, the mistakes that are found without the environment, or UsageError for a path that
    cannot be written into a line.
    """
    source = ConfigFile.read(find_config(path, environ))
    settings = parse_settings(source.document, source.place)
    variables = source.variables(environ)
    if environment_file is None and variables:
        environment_file = source.folder / ENVIRONMENT_FILE
    urls = [one.url for one in (settings.database, settings.destination) if one is not None]
    files = [source.absolute(url.partition(":///")[2]) for url in urls if is_sqlite(url) and not has_placeholder(url)]
    lock_dir = settings.run.lock_dir
    job = Job(
        command=(*program, "--config", str(source.path.absolute()), "run", "--trigger", "cron", *options),
        profile=settings.profile,
        user=user,
        variables=variables,
        environment_file=None if environment_file is None else str(environment_file.absolute()),
        notes=_notes(settings),
        local_database=any(not is_sqlite(url) and _is_local(url) for url in urls),
        needed_paths=tuple(dict.fromkeys([str(source.folder), *(str(Path(file).parent) for file in files)])),
        lock_dir=None if lock_dir is None or has_placeholder(lock_dir) else source.absolute(lock_dir),
        pauses="--max-runtime" in options,
    )
    check_words([*job.command, *job.needed_paths, job.environment_file or "", job.profile])
    return job


def _notes(settings: Settings) -> list[str]:
    if is_sqlite(settings.database.url):
        return ["SQLite: on the one machine whose disk has the file, and by one user, who owns it."]
    notes = ["MySQL: other machines may run it too; the lease in the database lets one work."]
    if settings.run.lock_dir is None:
        notes.append("Set lock_dir in [run], so that runs by hand and by other users meet the same lock file.")
    return notes


def _is_local(url: str) -> bool:
    try:
        return urlsplit(url).hostname in _LOCAL
    except ValueError:
        return False
