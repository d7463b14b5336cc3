"""The standard records of NetSuite and their dependencies, as `presets.toml` lists them.

A preset is a `[records.*]` table before it has met an account. Transactions are one table at the source; every type of
them is a record of its own here, with its lines and its accounting lines derived from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LINES = ("line", "accountingline")


@dataclass(frozen=True, slots=True)
class Preset:
    """One record. `columns` maps names to types as the configuration writes them; `catalogue` names the REST records
    whose fields are columns of the table; `sublists` says that those of their sublists are meant, as for lines."""

    name: str
    table: str
    columns: Mapping[str, str]
    key: tuple[str, ...] = ("id",)
    where: str | None = None
    depends_on: tuple[str, ...] = ()
    derived_from: str | None = None
    parent_key: str | None = None
    cursor: str | None = None
    catalogue: tuple[str, ...] = ()
    sublists: bool = False


@dataclass(frozen=True, slots=True)
class Presets:
    """All presets by name, in the order of their dependencies; each derived one stands behind its parent."""

    by_name: Mapping[str, Preset]

    def family(self, name: str) -> tuple[Preset, ...]:
        """Return the main preset that `name` is or derives from, and what derives from that. Raises KeyError."""
        main = self.by_name[name].derived_from or name
        return (self.by_name[main], *(one for one in self.by_name.values() if one.derived_from == main))

    @property
    def mains(self) -> tuple[Preset, ...]:
        """The presets that derive from none, but for `transaction`, which is all the types at once."""
        return tuple(
            preset for preset in self.by_name.values() if preset.derived_from is None and preset.name != "transaction"
        )


def parse_presets(document: Mapping[str, Any]) -> Presets:
    """Return the presets of the package's `presets.toml`, parsed."""
    presets = [_preset(name, table) for name, table in document["records"].items()]
    shape = document["transaction"]
    for name, kind in shape["types"].items():
        presets += _transactions(shape, name, f"type = '{kind['type']}'", [kind])
    presets += _transactions(shape, "transaction", None, list(shape["types"].values()))
    return Presets({preset.name: preset for preset in presets})


def _preset(name: str, given: Mapping[str, Any], **changes: Any) -> Preset:
    members = {key: value for key, value in given.items() if key not in ("types", *_LINES)}
    key = members.get("key", "id")
    members["key"] = (key,) if isinstance(key, str) else tuple(key)
    members["depends_on"] = tuple(members.get("depends_on", ()))
    members["catalogue"] = tuple(members.get("catalogue", ()))
    return Preset(**{"name": name, "table": name, **members, **changes})


def _transactions(
    shape: Mapping[str, Any], name: str, where: str | None, kinds: Sequence[Mapping[str, Any]]
) -> Iterator[Preset]:
    """Yield the presets of the transactions of these kinds: themselves, their lines, their accounting lines."""
    catalogue = tuple(kind["catalogue"] for kind in kinds)
    depends_on = tuple(dict.fromkeys([*(name for kind in kinds for name in kind["depends_on"]), *shape["depends_on"]]))
    yield _preset(name, shape, table="transaction", where=where, depends_on=depends_on, catalogue=catalogue)
    for line in _LINES:
        sublists = line == "line"  # accounting lines are the ledger's, and have no fields of their own
        yield _preset(
            f"{name}{line}",
            shape[line],
            derived_from=name,
            parent_key="transaction",
            catalogue=catalogue if sublists else (),
            sublists=sublists,
        )
