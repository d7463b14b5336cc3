"""What people may see of secrets: the names of variables, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waveimport.core.masking import masked, masked_url


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("", ""),
        ("secret", "***"),
        ("${NAME}", "${NAME}"),
        ("a${ONE}${TWO}b", "***${ONE}${TWO}***"),
        ("${not closed", "***"),
    ],
)
def test_a_secret_is_hidden_and_a_variable_named(written: str, shown: str) -> None:
    assert masked(written) == shown


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("sqlite:///a b/c@d:e.db", "sqlite:///a b/c@d:e.db"),
        ("mysql+pymysql://u@h/db", "mysql+pymysql://u@h/db"),
        ("mysql+pymysql://u:pw@h:3306/db?charset=utf8", "mysql+pymysql://u:***@h:3306/db?charset=utf8"),
        ("mysql://u:${PW}@${HOST}/db", "mysql://u:${PW}@${HOST}/db"),
        ("mysql://u:a${PW}@h/db", "mysql://u:***${PW}@h/db"),
        ("mysql://u:p/w?x#@y@h/db", "mysql://u:***@h/db"),
        ("mysql://u:forgot", "mysql://u:***"),
        ("mysql://u:forgot/db", "mysql://u:***"),
        ("mysql://[::1]:3306/db", "mysql://[::1]:3306/db"),
        ("mysql://h:${PORT}/db", "mysql://h:${PORT}/db"),
        ("mysql://h/db?ssl_key=/k&read_timeout=3&password=x", "mysql://h/db?ssl_key=***&read_timeout=3&password=***"),
        ("https://1234567.suitetalk.api.netsuite.com", "https://1234567.suitetalk.api.netsuite.com"),
        ("${DATABASE_URL}", "${DATABASE_URL}"),
        ("u:pw@h", "***"),
    ],
)
def test_a_url_is_shown_without_its_passwords(written: str, shown: str) -> None:
    assert masked_url(written) == shown


@given(st.text(min_size=1).filter(lambda text: "${" not in text))
def test_no_password_comes_through(noise: str) -> None:
    password = f"{noise}canary{noise}"
    assert "canary" not in masked(password)
    assert "canary" not in masked_url(f"mysql://user:{password}@host/db")
