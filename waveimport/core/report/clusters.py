"""Errors that differ only in ids, numbers and quoted values are one error, met many times."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

SHAPE_LONGEST = 240
_KEPT = re.compile(r"\b(?:WI-[A-Z]+-\d+|(?:HTTP|status|error|code)[ :=]+\d+|\d{3}(?=:))|\([1-5]\d\d\)", re.IGNORECASE)
_VARYING = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z| UTC)?"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}\b"
    r"|\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"
    r"|(?<!\w)'[^'\n]*'(?!\w)"
    r'|"[^"\n]*"'
    r"|(?<=\bID: )\S+"
    r"|\d+(?:[.,]\d+)*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Errors of one shape: how often and in how many batches they were met, from when to when, one of them whole."""

    shape: str
    count: int
    batches: int
    first: datetime
    last: datetime
    example: str
    example_batch: str


def shape_of(error: str) -> str:
    """Return an error with what varies from batch to batch taken out; codes and HTTP statuses stay."""
    parts, at = [], 0
    for kept in _KEPT.finditer(error):
        parts += [_VARYING.sub(_blank, error[at : kept.start()]), kept[0]]
        at = kept.end()
    parts.append(_VARYING.sub(_blank, error[at:]))
    shape = " ".join("".join(parts).split())
    return shape if len(shape) <= SHAPE_LONGEST else shape[:SHAPE_LONGEST] + "…"


def _blank(found: re.Match[str]) -> str:
    return "[…]" if found[0][0] in "'\"" else "[n]"


def clusters(errors: Iterable[tuple[str, str, datetime]]) -> list[Cluster]:
    """Group (batch id, error, moment) by shape, the most frequent first."""
    found: dict[str, list[tuple[str, str, datetime]]] = {}
    for one in errors:
        found.setdefault(shape_of(one[1]), []).append(one)
    groups = [
        Cluster(
            shape=shape,
            count=len(members),
            batches=len({batch for batch, _, _ in members}),
            first=min(at for _, _, at in members),
            last=max(at for _, _, at in members),
            example=members[0][1],
            example_batch=members[0][0],
        )
        for shape, members in found.items()
    ]
    return sorted(groups, key=lambda one: (-one.count, one.first, one.shape))
