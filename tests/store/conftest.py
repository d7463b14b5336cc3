"""Databases of one kind, for what only one of them does."""

from collections.abc import Iterator
from pathlib import Path

import mysql_server
import pytest

from waveimport.store.schema import upgrade
from waveimport.store.transactions import Database


@pytest.fixture
def mysql_database_url(mysql_url: str) -> Iterator[str]:
    """The URL of an empty database on a MySQL server."""
    with mysql_server.fresh_database(mysql_url) as url:
        yield url


@pytest.fixture
def mysql_database(mysql_database_url: str) -> Iterator[Database]:
    """An open MySQL database with the coordination tables."""
    database = Database.open(mysql_database_url)
    upgrade(database)
    yield database
    database.close()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """An open SQLite database with the coordination tables."""
    database = Database.open(f"sqlite:///{tmp_path / 'own.db'}")
    upgrade(database)
    yield database
    database.close()
