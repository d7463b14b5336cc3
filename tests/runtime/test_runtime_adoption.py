"""Which changes of the configuration an unfinished job may adopt."""

import pytest

from waveimport.runtime.adoption import adoptable


@pytest.mark.parametrize(
    ("line", "safe"),
    [
        ("records.landed.columns.memo: removed (text)", True),
        ("records.landed.columns.memo: added (text)", False),
        ("records.landed.columns.memo: was text, now integer", False),
        ("records.landed.where: was a, now not set", False),
        ("records.fresh.columns.memo: added (text)", True),
        ("records.fresh.columns.a.b: was text, now integer", True),
        ("records.fresh.where: was a, now b", True),
        ("records.fresh.table: was a, now b", True),
        ("records.fresh.key: was id, now uniquekey", False),
        ("records.fresh.parent_key: was a, now b", False),
        ("records.fresh.derived_from: was pa, now pb", False),
        ("records.fresh.depends_on: was a, now not set", False),
        ("records.fresh.table_name: was a, now b", False),
        ("records.fresh: added", False),
        ("account: was 1, now 2", False),
        ("destination.url: was a, now b", False),
    ],
)
def test_only_what_no_landed_row_depends_on_may_change(line: str, safe: bool) -> None:
    assert adoptable(line, {"landed"}) is safe
