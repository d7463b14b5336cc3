"""Tell others how a run begins and ends: a ping, a webhook, a command. None can fail the run, or hold it up long.

The ping is of the kind that healthchecks.io and its likes take: the address itself for success, `/start` and `/fail`
behind it. Source: healthchecks.io, "Pinging API".
"""

import json
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from waveimport.core.settings import NotifySettings

log = logging.getLogger(__name__)

HTTP_SECONDS = 10.0
COMMAND_SECONDS = 60.0
PATIENCE_SECONDS = 2 * HTTP_SECONDS + COMMAND_SECONDS
"""How long a run waits, at its end, for whom it tells."""
_BODY_MOST_CHARACTERS = 8_000


class Event(StrEnum):
    """What is told. `paused` is a run that was told to stop before its job was done: no success, and no failure."""

    START = "start"
    SUCCESS = "success"
    FAIL = "fail"
    PAUSED = "paused"


_SUFFIX: Mapping[Event, str] = {Event.START: "/start", Event.SUCCESS: "", Event.FAIL: "/fail"}


class Notifier:
    """Tells of one run. `scrub` takes secrets out of whatever is told."""

    def __init__(self, settings: NotifySettings, profile: str, scrub: Callable[[str], str]) -> None:
        self._settings = settings
        self._profile = profile
        self._scrub = scrub
        self._started: threading.Thread | None = None

    def started(self, job_id: str) -> None:
        """Tell, once and without waiting for it, that a job is being worked on."""
        if self._started is None:
            told = (Event.START, job_id, None, f"at work on {job_id}", None)
            self._started = threading.Thread(target=self._tell, args=told, name="notifier", daemon=True)
            self._started.start()

    def ended(
        self, event: Event, *, job_id: str | None, exit_code: int, message: str, job: Mapping[str, Any] | None
    ) -> None:
        """Tell how the run ended; `job` is the object of `status --json`, None where there is none."""
        if self._started is not None:
            self._started.join(PATIENCE_SECONDS)
        last = threading.Thread(target=self._tell, args=(event, job_id, exit_code, message, job), daemon=True)
        last.start()
        last.join(PATIENCE_SECONDS)
        if last.is_alive():
            log.warning("[notify] has not ended after %.0f s; the run does not wait for it", PATIENCE_SECONDS)

    def _tell(
        self, event: Event, job_id: str | None, exit_code: int | None, message: str, job: Mapping[str, Any] | None
    ) -> None:
        document = self._scrub(
            json.dumps(
                {
                    "schema_version": 1,
                    "event": event.value,
                    "profile": self._profile,
                    "job_id": job_id,
                    "exit_code": exit_code,
                    "message": message,
                    "job": job,
                },
                ensure_ascii=False,
            )
        )
        ways: list[tuple[str, Callable[[], None]]] = []
        if self._settings.ping_url and event in _SUFFIX:
            body = self._scrub(message)[:_BODY_MOST_CHARACTERS]
            ways.append(
                ("ping", lambda: _post(_with_suffix(self._settings.ping_url, _SUFFIX[event]), body, "text/plain"))
            )
        if self._settings.webhook_url:
            ways.append(("webhook", lambda: _post(self._settings.webhook_url, document, "application/json")))
        if self._settings.command:
            ways.append(("command", lambda: self._call(event, job_id, exit_code, document)))
        for name, way in ways:
            try:
                way()
            except (OSError, subprocess.SubprocessError, ValueError) as error:  # those of requests are OSErrors
                # Neither the address nor the command line: both may hold a secret.
                log.warning("the %s of [notify] failed: %s", name, _kind(error))

    def _call(self, event: Event, job_id: str | None, exit_code: int | None, document: str) -> None:
        told = {"WAVEIMPORT_EVENT": event.value, "WAVEIMPORT_JOB_ID": job_id or ""}
        told["WAVEIMPORT_EXIT_CODE"] = "" if exit_code is None else str(exit_code)
        subprocess.run(
            self._settings.command,
            input=document,
            text=True,
            env={**os.environ, **told},
            stdout=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
            check=True,
        )


class _Refused(OSError):
    """A status that is no success."""


def _post(url: str, body: str, kind: str) -> None:
    import requests  # most runs tell nobody, and need not load it

    headers = {"Content-Type": f"{kind}; charset=utf-8", "User-Agent": "waveimport"}
    # The status is all that counts: a body that drips, or another place, would hold the run.
    with requests.post(
        url, data=body.encode(), headers=headers, timeout=HTTP_SECONDS, stream=True, allow_redirects=False
    ) as answer:
        if answer.status_code >= 400:
            raise _Refused(f"it answered {answer.status_code}")


def _with_suffix(url: str, suffix: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + suffix))


def _kind(error: Exception) -> str:
    match error:
        case _Refused():
            return str(error)
        case subprocess.CalledProcessError():
            return f"it ended with {error.returncode}"
        case FileNotFoundError():
            return "there is no such program"
        case _:
            return type(error).__name__
