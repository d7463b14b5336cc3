"""A journal as lines: what was decided, in words, and neighbours that say the same folded into one."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from waveimport.cli.render import Screen, span
from waveimport.core.replay import decision_words, reason_words
from waveimport.runtime.retelling import Retold, alike
from waveimport.store.journal import Entry

WIDE = 140
"""Columns of a terminal that has room for decisions beside all the rest; a narrower one shows what it can."""
NARROW_HEAD = f"{'SEQ':>5}  {'TIME (UTC)':<12}  {'+DELTA':>12}  DECISION  (WHY)"
HEAD = f"{'SEQ':>5}  {'TIME (UTC)':<23}  {'+DELTA':>10}  {'SOURCE':<8}  {'TOKEN':>5}  {'EVENT':<7}  DECISION  (WHY)"


class _Hidden:
    """Alike neighbours that are not shown: how many, which, what they dispatched."""

    def __init__(self) -> None:
        self.seqs: list[int] = []  # the first and the last
        self.count = 0
        self.dispatched: Counter[int] = Counter()

    def add(self, one: Retold) -> None:
        self.seqs = [*self.seqs[:1], one.entry.seq]
        self.count += 1 + one.entry.repeats
        for order in one.entry.decision.dispatch if one.entry.decision else ():
            self.dispatched[order.wave_number] += order.count * (1 + one.entry.repeats)

    def line(self) -> str:
        seqs = f"{self.seqs[0]}" if self.seqs[0] == self.seqs[-1] else f"{self.seqs[0]} to {self.seqs[-1]}"
        batches = ", ".join(f"{count} of wave {wave}" for wave, count in sorted(self.dispatched.items()))
        return f"{'…':>5}  {self.count} more like it ({seqs})" + (f", which dispatched {batches}" if batches else "")


def timeline(retold: Iterable[Retold], *, fold: bool, screen: Screen, what_if: str | None = None) -> Iterator[str]:
    """Yield the lines of the entries as they come; with `fold`, of alike neighbours the first, how many, the last.

    Alike are passes of one source under one token that move nothing and differ at most in how much they dispatch. An
    entry that disagrees with today's code is never folded. On a terminal that is not wide source and token are left
    out, the day stands above, and long decisions go on in their column.
    """
    narrow = screen.columns if screen.columns is not None and screen.columns < WIDE else None
    yield HEAD if narrow is None else NARROW_HEAD
    before: datetime | None = None
    shown: Retold | None = None
    latest: tuple[str, Retold] | None = None
    hidden = _Hidden()
    for one in retold:
        line = _line(one, before) if narrow is None else _narrow_line(one, before, narrow)
        if narrow is not None and (before is None or before.date() != one.entry.at.date()):
            line = f"{one.entry.at:%Y-%m-%d}\n{line}"
        before = one.entry.at
        if fold and shown is not None and alike(shown, one):
            if latest is not None:
                hidden.add(latest[1])
            latest = (line, one)
            continue
        yield from _folded(hidden, latest)
        hidden, latest, shown = _Hidden(), None, one
        yield line
        for difference in one.replayed.differences:
            yield f"{'':>7}{_verdict(one, what_if)}: {difference}"
    yield from _folded(hidden, latest)


def _verdict(one: Retold, what_if: str | None) -> str:
    if what_if is not None:
        return f"by {what_if}"
    return "DIVERGENCE" if one.same_version else "decided otherwise today"


def _folded(hidden: _Hidden, latest: tuple[str, Retold] | None) -> Iterator[str]:
    if hidden.count:
        yield hidden.line()
    if latest is not None:
        yield latest[0]


def _narrow_line(one: Retold, before: datetime | None, width: int) -> str:
    entry = one.entry
    delta = "" if before is None else _delta(max(0.0, (entry.at - before).total_seconds()))
    head = f"{entry.seq:>5}  {entry.at.isoformat(sep=' ', timespec='milliseconds')[11:]}  {delta:>12}  "
    event = "" if entry.event == "pass" else f"{entry.event}: "
    told = textwrap.wrap(event + _told(one), max(20, width - len(head)), break_long_words=False, break_on_hyphens=False)
    return head + f"\n{'':{len(head)}}".join(told)


def _line(one: Retold, before: datetime | None) -> str:
    entry = one.entry
    delta = "" if before is None else _delta(max(0.0, (entry.at - before).total_seconds()))
    moment = entry.at.isoformat(sep=" ", timespec="milliseconds")
    head = f"{entry.seq:>5}  {moment:<23}  {delta:>10}  {entry.source:<8}  {entry.token:>5}  {entry.event:<7}"
    return f"{head}  {_told(one)}"


def _told(one: Retold) -> str:
    """What was decided, why, and how often it was met again; or what is noted."""
    decision = one.entry.decision
    if decision is None:
        return (one.entry.note or "-") + _again(one.entry)
    why = reason_words(decision)
    return decision_words(decision) + (f"  ({why})" if why else "") + _again(one.entry)


def _again(entry: Entry) -> str:
    if not entry.repeats or entry.repeated_at is None:
        return ""
    last = entry.repeated_at.isoformat(sep=" ", timespec="milliseconds")[11:]
    return f"  [met {entry.repeats + 1:,} times, last {last}]"


def _delta(seconds: float) -> str:
    # Passes follow one another within milliseconds, which `span` would round away.
    return f"+{seconds:.3f} s" if seconds < 60 else f"+{span(seconds)}"
