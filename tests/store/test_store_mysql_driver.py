"""TLS that checks nothing is set up once, as PyMySQL would have it; what is to be checked is left to PyMySQL."""

import ssl

import pytest
from pymysql.connections import Connection
from pymysql.converters import escape_string

from waveimport.store.mysql_driver import QuickConnection
from waveimport.store.packing import ESCAPED
from waveimport.store.transactions import Database

NOTHING = {"host": "127.0.0.1", "user": "root", "defer_connect": True}


def test_where_nothing_is_checked_it_is_what_pymysql_makes_and_the_same_for_all() -> None:
    theirs, ours = Connection(**NOTHING).ctx, QuickConnection(**NOTHING).ctx
    assert (ours.verify_mode, ours.check_hostname) == (theirs.verify_mode, theirs.check_hostname)
    assert (ours.minimum_version, ours.maximum_version) == (theirs.minimum_version, theirs.maximum_version)
    assert [one["name"] for one in ours.get_ciphers()] == [one["name"] for one in theirs.get_ciphers()]
    assert ours.options == theirs.options
    assert QuickConnection(**NOTHING).ctx is ours
    assert QuickConnection(**NOTHING)._ssl_required is Connection(**NOTHING)._ssl_required is False


def test_what_is_to_be_checked_is_left_to_pymysql() -> None:
    strict = QuickConnection(**NOTHING, ssl_verify_cert=True, ssl_ca=ssl.get_default_verify_paths().cafile)
    assert strict.ctx.verify_mode is ssl.CERT_REQUIRED
    assert strict.ctx is not QuickConnection(**NOTHING).ctx


@pytest.mark.mysql
def test_the_database_connects_by_it(mysql_database: Database) -> None:
    with mysql_database.engine.connect() as connection:
        assert isinstance(connection.connection.dbapi_connection, QuickConnection)


def test_what_is_looked_for_is_what_the_driver_escapes() -> None:
    """One look decides for all texts of a column."""
    for number in (*range(0x500), 0x2028, 0xFF07, 0x1F600):
        sign = chr(number)
        assert (sign in ESCAPED) == (escape_string(sign) != sign), hex(number)
