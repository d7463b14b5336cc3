"""The configuration file: found, placed by line, its secrets read only where a command needs them."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netsuite_keys import pem

from waveimport.core.settings import Settings
from waveimport.core.settings_records import RESERVED_TABLES
from waveimport.errors import BadSecret, BadToml, BadValue, ConfigError, ConfigErrors, ConfigMissing, UnknownKey
from waveimport.runtime.config import load_settings
from waveimport.runtime.config_lines import key_lines
from waveimport.store.schema import VERSION_TABLE
from waveimport.store.tables import metadata

CANARY = "canary-91be"
GOOD = """\
[database]
url = "sqlite:///data/waveimport.db"

[netsuite]
account = "1234567_SB1"
consumer_key = "${KEY}"
consumer_secret = "${SECRET}"
token_id = "id"
token_secret_file = "token.secret"

[records.customer]
columns = { id = "integer" }
"""
ENVIRON = {"KEY": "the-key", "SECRET": "the-secret"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good configuration and its secret file; the process stands elsewhere."""
    there = tmp_path / "etc"
    there.mkdir()
    (there / "waveimport.toml").write_text(GOOD)
    (there / "token.secret").write_text("the-token-secret\n")
    (there / "token.secret").chmod(0o600)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return there


def load(folder: Path, text: str = GOOD, *, secrets: bool = True, environ: dict[str, str] | None = None) -> Settings:
    path = folder / "waveimport.toml"
    path.write_text(text)
    return load_settings(path, ENVIRON if environ is None else environ, secrets=secrets)


# --- found ------------------------------------------------------------------------------------------------------


def test_the_given_file_beats_the_variable_and_the_variable_beats_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("given", "variable"):
        (folder / f"{name}.toml").write_text(f'profile = "{name}"\n{GOOD}')
    (folder / "waveimport.toml").write_text(f'profile = "folder"\n{GOOD}')
    monkeypatch.chdir(folder)
    environ = {"WAVEIMPORT_CONFIG": str(folder / "variable.toml")}
    assert load_settings(folder / "given.toml", environ, secrets=False).profile == "given"
    assert load_settings(None, environ, secrets=False).profile == "variable"
    assert load_settings(None, {}, secrets=False).profile == "folder"


def test_a_missing_file_says_where_it_was_looked_for_and_what_to_type(folder: Path) -> None:
    with pytest.raises(ConfigMissing) as caught:
        load_settings(None, {}, secrets=False)
    assert str(Path.cwd()) in caught.value.message
    assert "`waveimport init`" in (caught.value.help or "")
    with pytest.raises(ConfigMissing, match=r"gone.toml does not exist \(named by \$WAVEIMPORT_CONFIG\)"):
        load_settings(None, {"WAVEIMPORT_CONFIG": "gone.toml"}, secrets=False)
    with pytest.raises(ConfigMissing, match="is no file"):
        load_settings(folder, {}, secrets=False)


def test_a_syntax_error_is_placed_on_its_line(folder: Path) -> None:
    with pytest.raises(BadToml) as caught:
        load(folder, GOOD.replace('token_id = "id"', f"token_id = {CANARY}"))
    assert (caught.value.where or "").endswith("waveimport.toml:8")
    assert CANARY not in caught.value.render()
    with pytest.raises(BadToml) as caught:
        load(folder, GOOD + "[[")
    assert (caught.value.where or "").endswith("waveimport.toml:13")


def test_a_file_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "waveimport.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadToml, match="not UTF-8"):
        load_settings(folder / "waveimport.toml", {}, secrets=False)


def test_a_byte_order_mark_is_no_mistake(folder: Path) -> None:
    assert load(folder, "\ufeff" + GOOD).profile == "1234567_SB1"


# --- placed by line ---------------------------------------------------------------------------------------------

PLACES = r"""# a comment with [brackets] and = signs
a.b = 1
a."c.d" = 2

[x] # another
long = '''
[no.table]
no = 1
'''
basic = "# no \" comment"
list = [
  "one", # ]
  { inner = 1 },
]
last = 5

[x.'y z'.w]
inline = { one = 1, two = { three = "}" } }
dates = 1979-05-27 07:32:00
quotes = ""${'"'}"end of ""it""${'"'}"

[[many]]
k = 1
"""


def test_keys_are_found_on_the_line_they_stand_on() -> None:
    text = PLACES.replace("${'\"'}", '"')
    tomllib.loads(text)
    lines = key_lines(text)
    assert lines == {
        ("a",): 2, ("a", "b"): 2, ("a", "c.d"): 3, ("x",): 5, ("x", "long"): 6, ("x", "basic"): 10, ("x", "list"): 11,
        ("x", "last"): 15, ("x", "y z"): 17, ("x", "y z", "w"): 17, ("x", "y z", "w", "inline"): 18,
        ("x", "y z", "w", "inline", "one"): 18, ("x", "y z", "w", "inline", "two"): 18,
        ("x", "y z", "w", "inline", "two", "three"): 18, ("x", "y z", "w", "dates"): 19,
        ("x", "y z", "w", "quotes"): 20, ("many",): 22, ("many", "k"): 23,
    }  # fmt: skip
    assert key_lines(text.replace("\n", "\r\n")) == lines


NAMES = st.text(alphabet="ab.#]=\"' \\é\n", min_size=1, max_size=4)
VALUES = st.recursive(
    st.text(alphabet="x\"'#[]{}=\n\\,", max_size=6) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _written(value: Any) -> str:
    match value:
        case str() if "\n" in value and "'''" not in value and not value.endswith("'"):
            return f"'''\n{value}'''"
        case str():
            return _quoted(value)
        case list():
            return "[\n" + "".join(f"{_written(one)}, # ]\n" for one in value) + "]"
        case dict():
            return "{" + ", ".join(f"{_quoted(key)} = {_written(one)}" for key, one in value.items()) + "}"
        case _:
            return str(value)


def _paths(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from _paths(inner, (*path, key))


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=4))
def test_the_keys_found_are_those_that_the_parser_finds(document: dict[str, Any]) -> None:
    text, expected = "", {}
    for table, values in document.items():
        expected[(table,)] = text.count("\n") + 1
        text += f"[{_quoted(table)}]\n"
        for key, value in values.items():
            expected[(table, key)] = text.count("\n") + 1
            text += f"{_quoted(key)} = {_written(value)}\n"
    parsed = tomllib.loads(text)
    found = key_lines(text)
    assert set(found) == set(_paths(parsed))
    assert {path: line for path, line in found.items() if len(path) <= 2} == expected


def test_every_mistake_has_its_line_and_they_come_in_the_order_of_the_file(folder: Path) -> None:
    text = (
        GOOD.replace('account = "1234567_SB1"', 'acount = "1"')  # line 5; `account` is missing in the table of line 4
        .replace("sqlite:///data/waveimport.db", "postgresql://h/d")  # line 2
        .replace("token.secret", "gone.secret")  # line 9
        .replace('id = "integer"', 'id = "integr"')  # line 12
    )
    with pytest.raises(ConfigErrors) as caught:
        load(folder, text, environ={"SECRET": "x"})  # KEY of line 6 is not set
    places = [(error.where or "").rpartition(":")[2] for error in caught.value.errors]
    assert places == ["2", "4", "5", "6", "9", "12"]
    assert caught.value.exit_code == 2


def test_the_place_is_written_as_the_file_was_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "waveimport.toml").write_text(GOOD.replace("token_id", "token_ident"))
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigErrors) as caught:
        load_settings(None, ENVIRON, secrets=False)
    places = {type(error): error.where for error in caught.value.errors}
    assert places[UnknownKey] == "waveimport.toml:8"


# --- secrets ----------------------------------------------------------------------------------------------------


def test_credentials_come_from_the_environment_and_from_files(folder: Path) -> None:
    netsuite = load(folder).netsuite
    assert (netsuite.consumer_key, netsuite.consumer_secret) == ("the-key", "the-secret")
    assert (netsuite.token_id, netsuite.token_secret) == ("id", "the-token-secret")


def test_without_secrets_neither_environment_nor_files_are_needed(folder: Path) -> None:
    (folder / "token.secret").unlink()
    netsuite = load(folder, secrets=False, environ={}).netsuite
    credentials = (netsuite.consumer_key, netsuite.consumer_secret, netsuite.token_id, netsuite.token_secret)
    assert credentials == ("", "", "", "")


def test_an_unset_variable_is_named_with_its_key(folder: Path) -> None:
    with pytest.raises(BadSecret) as caught:
        load(folder, environ={"KEY": "k"})
    assert "environment variable SECRET, read by `consumer_secret` in [netsuite], is not set" in caught.value.message
    assert (caught.value.where or "").endswith(":7")


def test_an_empty_variable_is_no_credential(folder: Path) -> None:
    with pytest.raises(BadSecret, match=r"SECRET, read by `consumer_secret` in \[netsuite\], is empty"):
        load(folder, environ={"KEY": "k", "SECRET": ""})


def test_a_placeholder_that_names_nothing_is_a_mistake(folder: Path) -> None:
    with pytest.raises(BadSecret, match="names no environment variable"):
        load(folder, GOOD.replace("${KEY}", "${MY KEY}"))


def test_a_placeholder_stands_in_any_text_and_its_value_is_not_read_again(folder: Path) -> None:
    text = 'profile = "a ${WHO} b"\n' + GOOD.replace('{ id = "integer" }', '["${WHAT}", "id"]')
    settings = load(folder, text, environ=ENVIRON | {"WHO": "${KEY}", "WHAT": "city"}, secrets=False)
    assert settings.profile == "a ${KEY} b"
    assert [column.name for column in settings.record("customer").columns] == ["city", "id"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xff", b"x" * 70_000])
def test_a_file_without_a_secret_is_refused(folder: Path, content: bytes) -> None:
    (folder / "token.secret").write_bytes(content)
    with pytest.raises(BadSecret, match="holds no secret") as caught:
        load(folder)
    assert (caught.value.where or "").endswith(":9")


def test_only_the_line_end_is_stripped_from_a_secret_file(folder: Path) -> None:
    (folder / "token.secret").write_bytes(b" with blanks \r\n")
    assert load(folder).netsuite.token_secret == " with blanks "


def test_a_secret_file_that_others_can_read_is_worth_a_warning(folder: Path) -> None:
    warnings: list[str] = []
    load_settings(folder / "waveimport.toml", ENVIRON, secrets=True, warn=warnings.append)
    assert warnings == []
    (folder / "token.secret").chmod(0o640)
    load_settings(folder / "waveimport.toml", ENVIRON, secrets=True, warn=warnings.append)
    assert len(warnings) == 1
    assert "token.secret can be read by others (mode 0640): chmod 600" in warnings[0]


M2M = """\
auth = "m2m"
client_id = "c"
certificate_id = "i"
private_key_file = "keys/key.pem"
algorithm = "ES256"
"""
WITH_M2M = GOOD.replace('token_id = "id"\n', M2M)
"""The keys of token-based authentication stay beside those of the certificate."""


@pytest.fixture
def key_file(folder: Path) -> Path:
    path = folder / "keys" / "key.pem"
    path.parent.mkdir()
    path.write_text(pem("P-256"))
    path.chmod(0o600)
    return path


def refused_key(folder: Path, text: str = WITH_M2M) -> ConfigError:
    """Return the one mistake, which must stand at the line of `private_key_file` and have a mend."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    line = text.splitlines().index('private_key_file = "keys/key.pem"') + 1
    assert caught.value.where == f"{folder / 'waveimport.toml'}:{line}"
    assert caught.value.help
    return caught.value


def test_the_private_key_must_be_there_only_for_a_command_that_logs_in(folder: Path) -> None:
    settings = load(folder, WITH_M2M, secrets=False)
    assert settings.netsuite.private_key_file == str(folder / "keys" / "key.pem")
    assert settings.netsuite.private_key == ""
    error = refused_key(folder)
    assert isinstance(error, BadSecret)
    assert "key.pem of `private_key_file` in [netsuite] cannot be read: No such file" in error.message


def test_the_private_key_is_read_from_the_folder_of_the_configuration(folder: Path, key_file: Path) -> None:
    netsuite = load(folder, WITH_M2M).netsuite
    assert netsuite.private_key == pem("P-256").rstrip("\n")
    assert (netsuite.auth, netsuite.client_id, netsuite.certificate_id) == ("m2m", "c", "i")
    assert pem("P-256").splitlines()[1] not in repr(netsuite)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o660, 0o644, 0o777])
def test_a_private_key_that_others_can_read_is_refused_with_the_mend(folder: Path, key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    error = refused_key(folder)
    assert isinstance(error, BadSecret)
    assert error.message == f"the private key {key_file} is open to others than its owner (mode {mode:04o})"
    assert error.help == f"chmod 600 {key_file}"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_key_of_its_owner_alone_is_taken(folder: Path, key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    assert load(folder, WITH_M2M).netsuite.private_key


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        (b"", BadSecret, "holds no secret: empty, binary or too large"),
        (b"\xff\xfe", BadSecret, "holds no secret"),
        (b"x" * 70_000, BadSecret, "holds no secret"),
        (b"no key", BadSecret, "holds no private key in PEM form"),
        (pem("P-256", passphrase=b"x").encode(), BadSecret, "the private key is encrypted"),
        (pem("P-384").encode(), BadValue, "the private key is EC P-384, and ES256 signs with EC P-256"),
    ],
    ids=["empty", "binary", "large", "no PEM", "encrypted", "curve"],
)
def test_a_private_key_that_cannot_sign_is_told_before_anything_is_written(
    folder: Path, key_file: Path, content: bytes, kind: type[ConfigError], sentence: str
) -> None:
    key_file.write_bytes(content)
    error = refused_key(folder)
    assert type(error) is kind
    assert sentence in error.message


def test_a_folder_in_the_place_of_the_private_key_is_told(folder: Path) -> None:
    (folder / "keys" / "key.pem").mkdir(parents=True)
    assert "cannot be read: Is a directory" in refused_key(folder).message


def test_a_refused_private_key_is_told_beside_the_other_mistakes(folder: Path, key_file: Path) -> None:
    key_file.write_text(pem("RSA 2048"))
    text = WITH_M2M.replace('"ES256"', '"PS256"').replace('client_id = "c"', 'client_id = "${NOT_SET}"')
    with pytest.raises(ConfigErrors) as caught:
        load(folder, f"{text}\n[run]\nworkers = 0\n")
    for word, error in zip(("NOT_SET", "2048 bits", "`workers`"), caught.value.errors, strict=True):
        assert word in error.message


def test_a_misspelt_algorithm_is_one_mistake(folder: Path, key_file: Path) -> None:
    with pytest.raises(BadValue, match="one of PS256") as caught:
        load(folder, WITH_M2M.replace('"ES256"', '"RS256"'))
    assert not isinstance(caught.value, ConfigErrors)


def test_credentials_of_the_other_way_to_log_in_are_neither_needed_nor_read(folder: Path, key_file: Path) -> None:
    """One configuration for the day on which an account moves from tokens to a certificate."""
    both = WITH_M2M.replace("[records", 'token_id = "${NOT_SET}"\n[records', 1).replace("token.secret", "gone.secret")
    netsuite = load(folder, both).netsuite
    assert (netsuite.consumer_key, netsuite.token_id, netsuite.token_secret) == ("", "", "")
    assert netsuite.client_id == "c"
    unused = 'client_id = "${NOT_SET}"\ncertificate_id_file = "gone"\nprivate_key_file = "gone.pem"\n[records'
    netsuite = load(folder, GOOD.replace("[records", unused, 1)).netsuite
    assert (netsuite.client_id, netsuite.certificate_id, netsuite.private_key) == ("", "", "")
    assert netsuite.token_id == "id"


def test_the_way_to_log_in_may_come_from_the_environment(folder: Path, key_file: Path) -> None:
    text = WITH_M2M.replace('auth = "m2m"', 'auth = "${AUTH}"').replace(
        "[records", 'token_id = "${NOT_SET}"\n[records', 1
    )
    netsuite = load(folder, text, environ={**ENVIRON, "AUTH": "m2m"}).netsuite
    assert (netsuite.auth, netsuite.token_id) == ("m2m", "")
    assert netsuite.private_key


# --- database ---------------------------------------------------------------------------------------------------


def with_url(url: str, *more: str) -> str:
    return GOOD.replace('url = "sqlite:///data/waveimport.db"', "\n".join([f'url = "{url}"', *more]))


@pytest.mark.parametrize(
    ("url", "more", "finished"),
    [
        ("mysql+pymysql://u:p@h:3307/d?charset=utf8mb4", [], "mysql+pymysql://u:p@h:3307/d?charset=utf8mb4"),
        ("mysql://u@h/d", [], "mysql+pymysql://u@h/d"),
        ("mariadb://u@h/d", [], "mysql+pymysql://u@h/d"),
        ("mysql://h/d", [], "mysql+pymysql://h/d"),
        ("mysql://u@[::1]:3306/d", [], "mysql+pymysql://u@[::1]:3306/d"),
        ("mysql://u@/d?unix_socket=/run/s", [], "mysql+pymysql://u@/d?unix_socket=/run/s"),
        ("mysql://u:${PW}@h/d", [], "mysql+pymysql://u:p%40s%2Fs%3A%20%25@h/d"),
        ("mysql://u:old@h/d", ['password = "${PW}"'], "mysql+pymysql://u:p%40s%2Fs%3A%20%25@h/d"),
        ("mysql://u:old@h/d", ['password_file = "token.secret"'], "mysql+pymysql://u:the-token-secret@h/d"),
        ("mysql://u:p%40w@h/d", [], "mysql+pymysql://u:p%40w@h/d"),
        ("sqlite:////abs/x.db", [], "sqlite:////abs/x.db"),
        ("sqlite:///${WHERE}/x.db", [], "sqlite:////abs/lute/x.db"),
    ],
)
@pytest.mark.parametrize("secrets", [True, False])
def test_a_database_url_is_complete_for_every_command(
    folder: Path, url: str, more: list[str], finished: str, secrets: bool
) -> None:
    environ = ENVIRON | {"PW": "p@s/s: %", "WHERE": "/abs/lute"}
    assert load(folder, with_url(url, *more), environ=environ, secrets=secrets).database.url == finished


def test_relative_paths_start_at_the_configuration_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD.replace("[records.customer]", '[run]\nlock_dir = "locks"\n\n[records.customer]')
    settings = load(folder, text)
    assert settings.database.url == f"sqlite:///{folder}/data/waveimport.db"
    assert settings.run.lock_dir == str(folder / "locks")
    assert settings.path == str(folder / "waveimport.toml")
    monkeypatch.chdir(folder.parent)
    assert load_settings(Path("etc/waveimport.toml"), ENVIRON, secrets=True) == settings


def test_a_destination_has_a_url_and_password_of_its_own(folder: Path) -> None:
    more = '[destination]\nurl = "mysql://w@h/warehouse"\npassword = "${SECRET}"\nprefix = "ns_"\n'
    settings = load(folder, GOOD + more)
    assert settings.destination is not None
    assert settings.destination.url == "mysql+pymysql://w:the-secret@h/warehouse"
    assert not settings.one_database
    alone = load(folder, GOOD + '[destination]\nprefix = "ns_"\n')
    assert alone.destination is not None
    assert alone.destination.url == alone.database.url == f"sqlite:///{folder}/data/waveimport.db"
    assert alone.one_database


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:canary-91be@h/d", "sqlite:///file or mysql"),
        ("canary-91be", "sqlite:///file or mysql"),
        ("sqlite://", "an import must outlive"),
        ("sqlite:///:memory:", "an import must outlive"),
        ("sqlite:///", "an import must outlive"),
        ("sqlite:///file:x.db", "an import must outlive"),
        ("mysql://u@h/d#x", "percent-encode"),
        ("mysql://u@h/d/e", "percent-encode"),
        ("sqlite:///x.db?mode=memory", "without parameters"),
        ("mysql://u:canary-91be@h", "user@host/database"),
        ("mysql://u:canary-91be@/d", "user@host/database"),
        ("mysql://u:canary-91be/@h/d", "percent-encode"),
        ("mysql://u:a#canary-91be@h/d", "percent-encode"),
        ("mysql://u@h:canary-91be/d", "percent-encode"),
        ("mysql://h/d?password=canary-91be", "`password` beside it"),
    ],
)
def test_a_url_that_cannot_serve_is_refused_without_being_shown(folder: Path, url: str, expected: str) -> None:
    with pytest.raises(BadValue) as caught:
        load(folder, with_url(url))
    assert expected in caught.value.message
    assert (caught.value.where or "").endswith(":2")
    assert CANARY not in caught.value.render()
    assert caught.value.__cause__ is None
    assert CANARY not in str(caught.value.__context__)


def test_sqlite_has_no_password(folder: Path) -> None:
    with pytest.raises(BadValue, match="SQLite has none"):
        load(folder, with_url("sqlite:///x.db", 'password = "x"'))


@pytest.mark.parametrize("secret", [CANARY, f'{CANARY}"é\n', f"{CANARY} " * 40])
@pytest.mark.parametrize(
    ("written", "misused"),
    [
        ('account = "1234567_SB1"', 'account = "!${SECRET}"'),
        ("[netsuite]", '[netsuite]\nauth = "${SECRET}"'),
        ("[records.customer]", '[records.customer]\nkey = "${SECRET}"'),
        ("[records.customer]", '[records.customer]\ndepends_on = ["${SECRET}"]'),
        ('columns = { id = "integer" }', 'columns = { id = "${SECRET}" }'),
        ('columns = { id = "integer" }', 'columns = ["${SECRET}"]'),
        ("[records.customer]", '[run]\nworkers = "${SECRET}"\n[records.customer]'),
    ],
)
def test_a_secret_where_none_belongs_is_shown_by_its_variable(
    folder: Path, secret: str, written: str, misused: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder, GOOD.replace(written, misused), environ={"KEY": "k", "SECRET": secret})
    assert CANARY not in caught.value.render()
    assert CANARY not in str(caught.value)
    assert "${SECRET}" in caught.value.render()


def test_the_reserved_tables_are_those_of_the_store() -> None:
    assert {*metadata.tables, VERSION_TABLE} == RESERVED_TABLES


def test_what_is_no_credential_is_resolved_for_every_command(folder: Path) -> None:
    text = GOOD.replace('"1234567_SB1"', '"${ACCOUNT}"').replace("[records", "[run]\nworkers = 3\n[records")
    settings = load(folder, text, environ={"ACCOUNT": "77"}, secrets=False)
    assert settings.netsuite.base_url == "https://77.suitetalk.api.netsuite.com"
    assert settings.run.workers == 3


def test_a_mistake_about_the_whole_file_comes_first_and_without_line(folder: Path) -> None:
    text = GOOD[GOOD.index("[netsuite]") :].replace("token_id", "token_ident")
    with pytest.raises(ConfigErrors) as caught:
        load(folder, text)
    first = caught.value.errors[0]
    assert (first.message, first.where) == ("the table [database] is missing", str(folder / "waveimport.toml"))


def test_a_section_of_the_wrong_type_is_a_mistake_and_no_fault(folder: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load(folder, 'netsuite = 5\ndatabase = "x"\n[records.a]\ncolumns = ["id"]\n')
    assert [type(error) for error in caught.value.errors] == [BadValue, BadValue]


def test_a_warning_nobody_asked_for_is_dropped(folder: Path) -> None:
    (folder / "token.secret").chmod(0o644)
    assert load(folder).netsuite.token_secret == "the-token-secret"


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ('url = "sqlite:///data/waveimport.db"', "url = 5"),
        ('url = "sqlite:///data/waveimport.db"', 'url = ""'),
        ("[netsuite]", "password_file = 5\n[netsuite]"),
        ("[netsuite]", 'password_file = ""\n[netsuite]'),
        ('token_secret_file = "token.secret"', "token_secret_file = 5"),
        ('token_id = "id"', "token_id = 5"),
    ],
)
def test_a_secret_or_url_of_the_wrong_type_is_one_mistake(folder: Path, written: str, wrong: str) -> None:
    with pytest.raises(BadValue):
        load(folder, GOOD.replace(written, wrong))


def test_an_unset_variable_at_the_top_is_named_with_its_key(folder: Path) -> None:
    with pytest.raises(BadSecret, match=r"variable WHO, read by `profile`, is not set"):
        load(folder, 'profile = "${WHO}"\n' + GOOD)


def test_a_private_key_is_not_read_where_tokens_sign(folder: Path) -> None:
    text = GOOD.replace("[records", 'private_key_file = "gone.pem"\n[records')
    assert load(folder, text).netsuite.private_key_file == str(folder / "gone.pem")
