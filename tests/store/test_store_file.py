"""A SQLite file under a running program: whether it is still the one that was opened."""

from pathlib import Path

import pytest

from waveimport.errors import DatabaseDown
from waveimport.store.engine import require_same_file
from waveimport.store.transactions import Database


def test_a_file_that_was_deleted_replaced_or_put_back_is_noticed(tmp_path: Path) -> None:
    file, kept = tmp_path / "x.db", tmp_path / "kept.db"
    database = Database.open(f"sqlite:///{file}")
    try:
        database.run(require_same_file)
        file.rename(kept)
        with pytest.raises(DatabaseDown, match="deleted or replaced"):
            database.run(require_same_file)
        file.touch()
        with pytest.raises(DatabaseDown, match="deleted or replaced"):
            database.run(require_same_file)
        kept.replace(file)
        database.run(require_same_file)
    finally:
        database.close()


def test_any_other_database_has_no_file_to_lose(database_url: str) -> None:
    database = Database.open(database_url)
    try:
        database.run(require_same_file)
    finally:
        database.close()
