"""The account's data: whole, deterministic, and TPC-H's keys derivable."""

import contextlib
from pathlib import Path

import pytest

from waveimport.errors import MissingExtra, UsageError
from waveimport.simulator import dataset
from waveimport.simulator.dataset import build, built_scale, connect, ground_truth, open_or_build
from waveimport.simulator.schema import TABLES


def numbers(path: Path, sql: str) -> tuple[object, ...]:
    with contextlib.closing(connect(path)) as connection:
        row = connection.execute(sql).fetchone()
        assert isinstance(row, tuple)
        return row


def test_scale_one_hundredth_has_the_orders_and_lines_of_tpch(account: Path) -> None:
    orders = """SELECT count(*) FROM "transaction" WHERE type = 'SalesOrd'"""
    lines = """SELECT count(*) FROM transactionline WHERE "transaction" IN
               (SELECT id FROM "transaction" WHERE type = 'SalesOrd')"""
    assert numbers(account, orders) == (15000,)
    assert numbers(account, lines) == (60175,)


def test_the_derived_keys_agree_with_the_keys_in_custom_fields(account: Path) -> None:
    wrong = """
        SELECT (SELECT count(*) FROM customer WHERE id <> 2 * custentity_custkey + 1000)
             + (SELECT count(*) FROM vendor WHERE id <> 2 * custentity_suppkey + 1001)
             + (SELECT count(*) FROM item WHERE id <> custitem_partkey + 10)
             + (SELECT count(*) FROM "transaction" WHERE type = 'SalesOrd' AND id IS NOT custbody_orderkey)
             + (SELECT count(*) FROM subsidiary
                  WHERE id <> coalesce(custrecord_regionkey + 1, custrecord_nationkey + 11))
             + (SELECT count(*) FROM transactionline WHERE uniquekey <> 8 * "transaction" + id)"""
    assert numbers(account, wrong) == (0,)


def test_every_reference_finds_its_row(account: Path) -> None:
    orphans = """
        SELECT (SELECT count(*) FROM subsidiary WHERE parent NOT IN (SELECT id FROM subsidiary))
             + (SELECT count(*) FROM customer WHERE subsidiary NOT IN (SELECT id FROM subsidiary))
             + (SELECT count(*) FROM vendor WHERE subsidiary NOT IN (SELECT id FROM subsidiary))
             + (SELECT count(*) FROM "transaction" WHERE entity NOT IN
                  (SELECT id FROM customer UNION SELECT id FROM vendor))
             + (SELECT count(*) FROM transactionline WHERE "transaction" NOT IN (SELECT id FROM "transaction"))
             + (SELECT count(*) FROM transactionline WHERE item NOT IN (SELECT id FROM item))
             + (SELECT count(*) FROM transactionline WHERE custcol_supplier NOT IN (SELECT id FROM vendor))"""
    assert numbers(account, orphans) == (0,)


def test_the_account_has_what_an_importer_stumbles_over(account: Path) -> None:
    others = """SELECT count(DISTINCT type), max(id) FROM "transaction" WHERE type <> 'SalesOrd'"""
    assert numbers(account, others) == (3, 9_000_000_000)
    assert numbers(account, "SELECT min(id), max(id) FROM customer") == (-5, 5_000_000_003)
    assert numbers(account, "SELECT count(*) FROM item WHERE id <= 0") == (8,)
    assert numbers(account, "SELECT count(*) > 0 FROM customer WHERE email IS NULL") == (1,)
    assert numbers(account, "SELECT count(*) > 0 FROM customer WHERE companyname LIKE '%東京%'") == (1,)
    same_second = """SELECT max(n) > 1000 FROM (SELECT count(*) AS n FROM "transaction" GROUP BY lastmodifieddate)"""
    assert numbers(account, same_second) == (1,)


def test_a_column_declared_without_nulls_has_none(account: Path) -> None:
    for table in TABLES.values():
        for column in table.columns:
            found = numbers(account, f'SELECT count(*) FROM "{table.name}" WHERE "{column.name}" IS NULL')[0]
            assert found == 0 or column.nullable, (table.name, column.name)


def test_a_column_that_may_hold_nulls_holds_some_in_each_table(account: Path) -> None:
    for table in TABLES.values():
        if table.name == "deletedrecord":
            continue  # nothing was deleted yet
        missing = " OR ".join(f'"{column.name}" IS NULL' for column in table.columns if column.nullable)
        assert numbers(account, f'SELECT count(*) FROM "{table.name}" WHERE {missing}')[0], table.name


def test_two_builds_hold_the_same_bytes(small_account: Path, tmp_path: Path) -> None:
    build(tmp_path / "again.sqlite", 0.001)
    assert (tmp_path / "again.sqlite").read_bytes() == small_account.read_bytes()


def test_the_ground_truth_gives_text_as_the_service_serves_it(small_account: Path) -> None:
    rows = list(ground_truth(small_account, "customer", ["id", "balance", "email", "isinactive"], "id < 1004"))
    assert rows == [("-5", "0", None, "F"), ("1002", "711.56", "kontakt1@example.com", "F")]


def test_a_kept_file_is_used_again(small_account: Path) -> None:
    before = small_account.stat()
    open_or_build(small_account, 0.001)
    assert (small_account.stat().st_ino, small_account.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_kept_file_of_another_scale_is_refused(small_account: Path) -> None:
    with pytest.raises(UsageError, match=r"scale 0\.001, not 0\.01"):
        open_or_build(small_account, 0.01)


def test_a_file_that_is_no_account_is_refused_and_left_alone(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("dear reader")
    with pytest.raises(UsageError, match="not an account"):
        open_or_build(letter, 0.001)
    assert letter.read_text() == "dear reader"


@pytest.mark.parametrize("scale", [0.0, -1.0, 0.0001, 1000.0])
def test_a_scale_out_of_bounds_is_refused(tmp_path: Path, scale: float) -> None:
    with pytest.raises(UsageError, match="not between"):
        build(tmp_path / "none.sqlite", scale)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_generator_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra) as caught:
        build(tmp_path / "none.sqlite", 0.001)
    assert caught.value.help == "pip install 'waveimport[demo]'"
    assert list(tmp_path.iterdir()) == []


def test_a_generator_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tpchgen-cli"
    program.write_text("#!/bin/sh\necho 'no room left' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    folder = tmp_path / "data"
    with pytest.raises(UsageError, match="no room left"):
        build(folder / "none.sqlite", 0.001)
    assert list(folder.iterdir()) == []


def test_a_build_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_at_the_lines(step: str) -> None:
        if step == "transactionline":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "none.sqlite", 0.001, stop_at_the_lines)
    assert list(tmp_path.iterdir()) == []


def test_the_scale_of_a_file_can_be_read(small_account: Path) -> None:
    assert built_scale(small_account) == 0.001
    assert dataset.DATASET_VERSION >= 1
