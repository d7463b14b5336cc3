"""Which rows of a record a batch covers, as its spec says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waveimport.core.settings import RecordSettings
from waveimport.netsuite.suiteql import page_query
from waveimport.store.batches import Claim

Key = tuple[Any, ...]
"""The key values of a row, in the order of the record's key."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows with lower < first key <= upper (None is open), of these parents (None: of any), behind the key `after`
    (None: from the first on)."""

    lower: int | None
    upper: int | None
    parents: Sequence[int | str] | None
    after: Key | None = None

    @classmethod
    def of(cls, spec: Mapping[str, object]) -> "Slice":
        """Return all that a batch of this spec covers."""
        parents = spec.get("parents")
        keys = None
        if isinstance(parents, list):
            plain = set(map(type, parents)) <= {int, str}
            keys = parents if plain else [value for value in parents if isinstance(value, int | str)]
        return cls(integer(spec.get("lower")), integer(spec.get("upper")), keys)

    def query(self, record: RecordSettings, *, until: Key | None = None) -> str:
        """Return the query of the first page of these rows, up to the key `until`. Raises ValueError as `page_query`
        does."""
        return page_query(
            record, lower=self.lower, upper=self.upper, after=self.after, parents=self.parents, until=until
        )


def integer(value: object) -> int | None:
    """Return a number out of a spec, None where there is no integer."""
    return value if isinstance(value, int) else None


def resume_key(claim: Claim) -> Key | None:
    """Return the key of the last row that an earlier attempt has landed, None where none has."""
    return None if claim.resume_key is None else tuple(claim.resume_key)
