"""A run at fixed times, as cron and systemd want it written.

Both read more out of a line than a shell does: cron ends a command at a `%`, systemd puts in what a `%` or `$` names.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from waveimport.errors import UsageError

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_GLOB: Final = re.compile(r"[*?\[]")
_UNREADABLE: Final = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class Times:
    """When to run: every so many seconds, and where that is a day at which hour and minute of it."""

    every_seconds: float
    hour: int = 0
    minute: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """What to run. `command` are its words, the program's absolute path first. `variables` are the names that it reads
    from the environment, `environment_file` gives their values, None where there are none. `local_database` says that a
    MySQL server of this machine is one of its databases; `needed_paths` are files and folders that must be mounted;
    `lock_dir` is the folder of locks where one is configured."""

    command: Sequence[str]
    profile: str
    user: str | None
    variables: Sequence[str] = ()
    environment_file: str | None = None
    notes: Sequence[str] = ()
    local_database: bool = False
    needed_paths: Sequence[str] = ()
    lock_dir: str | None = None
    pauses: bool = False


def check_times(times: Times) -> None:
    """Raise UsageError for times that cron cannot keep: it knows the minutes of an hour and the hours of a day."""
    seconds = times.every_seconds
    if seconds == DAY:
        return
    whole = (seconds % MINUTE == 0 and HOUR % seconds == 0) or (seconds % HOUR == 0 and DAY % seconds == 0)
    if not whole or seconds > DAY:
        raise UsageError(
            "the times between two runs must part an hour or a day evenly, in whole minutes, and be a day at most",
            help="for example --every 15m, --every 1h, --every 6h or --every 1d",
        )


def check_words(words: Sequence[str]) -> None:
    """Raise UsageError for a word with a backslash or a control character: no two readers agree on those."""
    for word in words:
        if _UNREADABLE.search(word):
            raise UsageError(
                f"{word!r} holds a backslash or a control character, which cron and systemd read in ways of their own",
                help="give the file, or the profile, another name",
            )


def crontab(job: Job, times: Times) -> str:
    """Return a line for a user's own crontab, with comments; with a user, one for /etc/cron.d."""
    lines = [
        "# One run works, the others step aside with exit code 0, so no flock is needed: for "
        + ("`crontab -e`." if job.user is None else "a file in /etc/cron.d.")
    ]
    lines += [f"# {note}" for note in job.notes]
    command = " ".join(shlex.quote(word) for word in job.command)
    if job.environment_file is not None:
        lines.append(_hint(job))
        command = f"set -a; . {shlex.quote(job.environment_file)}; exec {command}"
    line = [_cron_times(times), *([] if job.user is None else [job.user]), command.replace("%", r"\%")]
    return "\n".join([*lines, " ".join(line)]) + "\n"


def _cron_times(times: Times) -> str:
    minutes, hours = round(times.every_seconds / MINUTE), round(times.every_seconds / HOUR)
    if times.every_seconds < HOUR:
        return f"{'*' if minutes == 1 else f'*/{minutes}'} * * * *"
    if times.every_seconds < DAY:
        return f"0 {'*' if hours == 1 else f'*/{hours}'} * * *"
    return f"{times.minute} {times.hour} * * *"


def _hint(job: Job) -> str:
    names = f" for {', '.join(job.variables)}" if job.variables else ""
    return f"# The secrets: lines NAME='value'{names}, in a file with mode 0600."


def service_unit(job: Job) -> str:
    """Return the systemd service of one run."""
    after = ["network-online.target", *(["mariadb.service", "mysql.service"] if job.local_database else [])]
    lines = [
        "# /etc/systemd/system/waveimport.service: one run; the timer beside it starts it.",
        *(f"# {note}" for note in job.notes),
        "[Unit]",
        f"Description=Import NetSuite, profile {job.profile.replace('%', '%%')}",
        "Wants=network-online.target",
        f"After={' '.join(after)}",
        *([f"RequiresMountsFor={' '.join(map(_unit_word, job.needed_paths))}"] if job.needed_paths else []),
        "",
        "[Service]",
        "Type=oneshot",
        *([] if job.user is None else [f"User={job.user}"]),
    ]
    if job.environment_file is not None:
        # This value alone is taken as it stands, but for specifiers and patterns.
        file = _GLOB.sub(lambda match: f"\\{match[0]}", job.environment_file).replace("%", "%%")
        lines += [_hint(job), f"EnvironmentFile={file}"]
    # systemd takes no quote in the name of a program.
    program, *words = [*(["/usr/bin/env"] if re.search(r"[\"']", job.command[0]) else []), *job.command]
    lines += [
        " ".join([f"ExecStart={_unit_word(program)}", *(_unit_word(word).replace("$", "$$") for word in words)]),
        "# SIGTERM lands the pages in flight and hands the rest back; the next run goes on with it.",
        "TimeoutStopSec=60",
    ]
    if job.pauses:
        lines += ["# Paused by --max-runtime.", "SuccessExitStatus=7"]
    if (folder := _runtime_directory(job.lock_dir)) is not None:
        lines += [
            "# The folder of locks, kept: a lock file that is deleted would let two in.",
            f"RuntimeDirectory={folder}",
            "RuntimeDirectoryMode=0700",
            "RuntimeDirectoryPreserve=yes",
        ]
    return "\n".join(lines) + "\n"


def timer_unit(job: Job, times: Times) -> str:
    """Return the systemd timer that starts the service of its name."""
    return "\n".join([
        "# /etc/systemd/system/waveimport.timer: `systemctl daemon-reload`, `systemctl enable --now waveimport.timer`.",
        "[Unit]",
        f"Description=Import NetSuite at its times, profile {job.profile.replace('%', '%%')}",
        "",
        "[Timer]",
        f"OnCalendar={_calendar(times)}",
        "# A time that the machine has slept through is made up for.",
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]) + "\n"  # fmt: skip


def _calendar(times: Times) -> str:
    if times.every_seconds < HOUR:
        return f"*-*-* *:00/{round(times.every_seconds / MINUTE)}:00"
    if times.every_seconds < DAY:
        return f"*-*-* 00/{round(times.every_seconds / HOUR)}:00:00"
    return f"*-*-* {times.hour:02}:{times.minute:02}:00"


def _unit_word(word: str) -> str:
    escaped = word.replace("%", "%%")
    return escaped if _PLAIN.fullmatch(word) else '"' + escaped.replace('"', '\\"') + '"'


def _runtime_directory(lock_dir: str | None) -> str | None:
    """Return the folder of locks below /run, which is empty after each start of the machine; None where it is not."""
    for prefix, below in (("/var/lock/", "lock/"), ("/run/", "")):
        if lock_dir is not None and lock_dir.startswith(prefix) and _PLAIN.fullmatch(lock_dir) and "%" not in lock_dir:
            return below + lock_dir.removeprefix(prefix).rstrip("/")
    return None
