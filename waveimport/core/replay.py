"""Fold a journal through the function that decides today, and find the first entry where it would decide otherwise."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from waveimport.core.waves import Decision, JobSnapshot, decide


@dataclass(frozen=True, slots=True)
class Replayed:
    """One entry of the journal recomputed. `differences` say field by field where the recorded and the recomputed
    decision differ, empty when they agree; `recomputed` is None for entries that record no decision."""

    seq: int
    recomputed: Decision | None
    differences: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether today's code decides as was recorded."""
        return not self.differences


def replay(
    entries: Iterable[tuple[int, JobSnapshot | None, Decision | None]],
    decide: Callable[[JobSnapshot], Decision] = decide,
) -> Iterator[Replayed]:
    """Recompute the decision of each (seq, snapshot, recorded decision), in order."""
    for seq, snapshot, recorded in entries:
        if snapshot is None or recorded is None:
            yield Replayed(seq, None, ())
            continue
        recomputed = decide(snapshot)
        yield Replayed(seq, recomputed, tuple(differences(recorded, recomputed)))


def state_after(snapshot: JobSnapshot, decision: Decision) -> JobSnapshot:
    """Return what the moves and seals of a decision make of what it saw; what it handed out is not in it."""
    status = {move.wave_number: move.target for move in decision.moves}
    sealed = {seal.wave_number for seal in decision.seals}
    return replace(
        snapshot,
        status=decision.job or snapshot.status,
        coordination_status=decision.coordination_status or snapshot.coordination_status,
        waves=tuple(
            replace(
                wave,
                status=status.get(wave.wave_number, wave.status),
                sealed=wave.sealed or wave.wave_number in sealed,
            )
            for wave in snapshot.waves
        ),
    )


def essence(snapshot: JobSnapshot) -> JobSnapshot:
    """Return what a decision that moves nothing depends on: of the batches of a wave only whether there are any."""
    return replace(snapshot, waves=tuple(replace(wave, total=min(wave.total, 1)) for wave in snapshot.waves))


def differences(recorded: Decision, recomputed: Decision) -> Iterator[str]:
    """Yield `field: recorded …, recomputed …` for each field of two decisions that differs."""
    for part in fields(Decision):
        old, new = getattr(recorded, part.name), getattr(recomputed, part.name)
        if old != new:
            yield f"{part.name}: recorded {words(old)}, recomputed {words(new)}"


def words(value: Any) -> str:
    """Return a part of a decision as people read it."""
    if value is None or value == ():
        return "nothing"
    if isinstance(value, tuple):
        return "; ".join(words(part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = [f"{part.name}={getattr(value, part.name)}" for part in fields(value) if part.name != "reason"]
        return f"{type(value).__name__.lower()}({', '.join(parts)})"
    return str(value)


def decision_words(decision: Decision) -> str:
    """Return what was decided: `job processing; wave 1 pending -> processing; seal 4; dispatch 2 of wave 1`."""
    parts = [f"job {decision.job}"] if decision.job else []
    parts += [f"planning: {decision.coordination_status}"] if decision.coordination_status else []
    parts += [f"wave {move.wave_number} {move.source} -> {move.target}" for move in decision.moves]
    parts += [f"seal wave {', '.join(str(seal.wave_number) for seal in decision.seals)}"] if decision.seals else []
    parts += [f"requeue in wave {', '.join(map(str, decision.requeue))}"] if decision.requeue else []
    if decision.dispatch:
        orders = (
            f"{order.count}{' plans' if order.plans_only else ''} of wave {order.wave_number}"
            for order in decision.dispatch
        )
        parts.append(f"dispatch {', '.join(orders)}")
    return "; ".join(parts) or "nothing"


def reason_words(decision: Decision) -> str:
    """Return why: the reason of the whole, then those of its moves, seals and dispatches, each said once."""
    reasons = [decision.reason]
    reasons += [f"wave {move.wave_number}: {move.reason}" for move in decision.moves]
    reasons += [f"wave {seal.wave_number} sealed: {seal.reason}" for seal in decision.seals]
    reasons += [order.reason for order in decision.dispatch]
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason))
