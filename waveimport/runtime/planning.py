"""Planning: the bounds of a main record, and the ranges and sweeps that are made of them."""

from contextlib import suppress
from datetime import UTC, datetime

from waveimport.core.increments import MOMENT_FORMAT
from waveimport.core.ranges import Bounds, main_batch_id, range_count, split
from waveimport.core.records import parse_bounds
from waveimport.core.settings import RecordSettings
from waveimport.core.waves import BatchKind
from waveimport.errors import QueryRefused
from waveimport.netsuite.auth import SIGNATURE_SKEW_MOST_SECONDS
from waveimport.netsuite.suiteql import PROBE_QUERY, bounds_query
from waveimport.runtime import clock
from waveimport.runtime.job_records import JobRecords
from waveimport.runtime.slices import integer
from waveimport.runtime.steps import Steps
from waveimport.runtime.sweeping import sweeps_of
from waveimport.runtime.visibility import Visibility
from waveimport.store.batches import Claim
from waveimport.store.landing import KEPT, NewBatch

RANGES_A_COMMIT = 2_000


class Planner:
    """Works on the batches that plan a record. Threads share one."""

    def __init__(self, steps: Steps, records: JobRecords, visibility: Visibility) -> None:
        self._steps = steps
        self._records = records
        self._visibility = visibility

    def plan(self, claim: Claim) -> None:
        """Ask for the bounds once, keep them, make the ranges a few thousand a commit.

        Bounds that are stored are never asked for again: a table that grew between two askings once left 12,840 keys
        in no batch.

        Raises Stopped, Fenced, and the errors of source and database.
        """
        record = self._records.of(claim)
        since = self._records.since(claim)
        spec = dict(claim.spec)
        if "count" not in spec:
            spec |= self._moment(claim, record)
            count, lowest, highest = parse_bounds(self._steps.ask(claim, bounds_query(self._records.narrowed(claim))))
            spec |= {
                "count": count,
                "lowest": lowest,
                "highest": highest,
                "batch_size": self._steps.settings.batch_size,
                "next": 0,
            }
            unseen = not count and (since is None or not self._visibility.is_seen(claim, record))
            self._steps.land(claim, spec, None, event=KEPT if unseen else None)
        bounds = Bounds(integer(spec["count"]) or 0, integer(spec["lowest"]), integer(spec["highest"]))
        size, at = integer(spec["batch_size"]) or 1, integer(spec["next"]) or 0
        # Where nothing has changed there is no range to ask: what changes from now on is the next job's.
        total = range_count(bounds, size) if since is None or bounds.count else 0
        done = False
        while not done:
            self._steps.check_stop()
            self._steps.still_at_work(claim)
            part = sweeps_of(self._records, claim) if at == 0 else []
            sweeps = len(part)
            for number, keys in split(bounds, size, at) if total else ():
                covers: dict[str, object] = {"lower": keys.lower, "upper": keys.upper}
                if keys.upper is None:
                    covers["highest"] = bounds.highest
                if since is not None:
                    covers["since"] = since
                elif not bounds.count:
                    # A table that is hidden from the role looks empty: what is known of it stays.
                    covers["keep"] = True
                batch_id = main_batch_id(claim.wave_number, claim.record, number)
                part.append(NewBatch(batch_id, claim.wave_number, claim.record, BatchKind.RANGE, covers))
                if len(part) - sweeps == RANGES_A_COMMIT:
                    break
            at += len(part) - sweeps
            spec = {**spec, "next": at}
            done = at >= total
            self._steps.land(claim, spec, None, children=tuple(part), done=done)

    def _moment(self, claim: Claim, record: RecordSettings) -> dict[str, object]:
        """Return what the watermarks of a record are set by once the job is done: the source's clock before anything of
        it is read, so that what changes meanwhile lies behind them."""
        members = self._records.family(record)
        cursors = [one.name for one in members if one.cursor is not None]
        if not cursors:
            return {}
        source = self._steps.source
        if source.epoch_seconds() is None:
            with suppress(QueryRefused):  # a refusal is an answer, and dated
                self._steps.ask(claim, PROBE_QUERY, 1)
        now = source.epoch_seconds()
        if now is None:
            # A service that never says its time accepts signatures up to so much beside it.
            now = clock.epoch_seconds() - SIGNATURE_SKEW_MOST_SECONDS
        as_of = datetime.fromtimestamp(now, UTC).strftime(MOMENT_FORMAT)
        return {
            "as_of": as_of,
            "lookback": self._steps.settings.lookback_seconds,
            "cursors": cursors,
            "family": [one.name for one in members],
        }
