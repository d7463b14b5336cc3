"""What a run is asked to do, and how it ended."""

from dataclasses import dataclass

from waveimport.core.waves import Trigger
from waveimport.errors import ExitCode, WaveImportError


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the person or the cron line asked for, see `waveimport run --help`."""

    trigger: Trigger = Trigger.MANUAL
    full: bool = False
    incremental: bool = False
    records: tuple[str, ...] | None = None
    retry_failed: bool = False
    adopt_config: bool = False
    max_runtime_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: the exit code, the job it worked on (None for none), one line for stderr, the error if any."""

    exit_code: ExitCode
    job_id: str | None = None
    message: str | None = None
    error: WaveImportError | None = None
    stepped_aside: bool = False
