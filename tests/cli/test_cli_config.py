"""`waveimport config show`: every key, its value, where that comes from; and no secret."""

import pytest
from cli_world import CANARY, RECORDS, World

from waveimport.core.settings import DATABASE_KEYS, DESTINATION_KEYS, NETSUITE_KEYS, NOTIFY_KEYS, RUN_KEYS
from waveimport.errors import ExitCode

SECRETS = f"""
[netsuite]
account = "1234567_SB1"
consumer_key = "${{NOT_SET_ANYWHERE}}"
consumer_secret = "{CANARY}-cs"
token_id_file = "no/such/file"
token_secret = "a${{NOT_SET_ANYWHERE}}"
client_id = "{CANARY}-of-the-other-way"

[notify]
ping_url = "https://hc.example/{CANARY}"
command = ["/bin/tell", "{CANARY}"]
"""


@pytest.fixture
def shown(sqlite_world: World) -> World:
    text = f"mysql+pymysql://u:{CANARY}@db.example.com/netsuite"
    sqlite_world.configure(SECRETS, url=text, run="page_size = 50")
    return sqlite_world


def test_every_key_has_its_value_and_origin(shown: World) -> None:
    said = shown.call("config", "show", "--json")
    assert (said.code, said.err) == (ExitCode.OK, "")
    assert said.json["file"] == str(shown.config)
    assert said.json["named_by"] == "--config"
    keys = {one.pop("key"): one for one in said.json["keys"]}
    tables = {
        "database": DATABASE_KEYS,
        "destination": DESTINATION_KEYS,
        "netsuite": NETSUITE_KEYS,
        "run": RUN_KEYS,
        "notify": NOTIFY_KEYS,
    }
    assert list(keys) == ["profile", *(f"{table}.{name}" for table, names in tables.items() for name in names)]
    lines = shown.config.read_text().splitlines()

    def of_file(key: str, value: object) -> dict[str, object]:
        line = next(number for number, text in enumerate(lines, 1) if text.startswith(f"{key.split('.')[1]} = "))
        return {"value": value, "origin": "file", "where": f"{shown.config}:{line}"}

    for key, value in {
        "database.url": "mysql+pymysql://u:***@db.example.com/netsuite",
        "netsuite.account": "1234567_SB1",
        "netsuite.consumer_key": "${NOT_SET_ANYWHERE}",
        "netsuite.consumer_secret": "***",
        "netsuite.token_id_file": "no/such/file",
        "netsuite.token_secret": "***${NOT_SET_ANYWHERE}",
        "netsuite.client_id": "***",
        "run.workers": 4,
        "notify.ping_url": "***",
        "notify.command": ["/bin/tell", "***"],
        "run.page_size": 50,
    }.items():
        assert keys[key] == of_file(key, value), key
    assert keys["run.batch_size"] == {"value": 5000, "origin": "default", "where": None}
    assert keys["profile"] == {"value": "1234567_SB1", "origin": "default", "where": None}
    assert keys["destination.url"] == {"value": None, "origin": "unset", "where": None}


def test_records_are_summed_up(shown: World) -> None:
    order, line = shown.call("config", "show", "--json").json["records"][2:]
    where = order.pop("where")
    assert shown.config.read_text().splitlines()[int(where.rpartition(":")[2]) - 1] == "[records.salesorder]"
    assert order == {
        "record": "salesorder",
        "table": "transaction",
        "table_name": "salesorder",
        "key": ["id"],
        "cursor": None,
        "derived_from": None,
        "columns": 4,
    }
    assert (line["derived_from"], line["key"]) == ("salesorder", ["uniquekey"])


def test_an_option_beats_its_variable_and_that_the_file(shown: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(*words: str) -> list[str]:
        (line,) = (line for line in shown.call("config", "show", *words).out.splitlines() if "run.workers" in line)
        return line.split()

    assert workers()[1:] == ["4", f"{shown.config}:{shown.config.read_text().splitlines().index('workers = 4') + 1}"]
    monkeypatch.setenv("WAVEIMPORT_WORKERS", "3")
    assert workers()[1:] == ["3", "WAVEIMPORT_WORKERS"]
    assert workers("--workers", "2")[1:] == ["2", "--workers"]
    monkeypatch.setenv("WAVEIMPORT_WORKERS", "many")
    assert shown.call("config", "show").code == ExitCode.USAGE


def test_the_text_says_the_same(shown: World) -> None:
    out = shown.call("config", "show").out
    assert out.startswith(f"{shown.config} (--config)\n\nKEY ")
    assert 'database.url                 "mysql+pymysql://u:***@db.example.com/netsuite" ' in out
    assert "not set: database.password, " in out
    last = out.splitlines()[-1].split()
    assert last[:6] == ["salesorderline", "transactionline", "uniquekey", "-", "salesorder", "3"]


def test_a_destination_without_url_is_the_database(sqlite_world: World) -> None:
    with sqlite_world.config.open("a") as file:
        file.write('\n[destination]\nprefix = "ns_"\n')
    keys = {one["key"]: one for one in sqlite_world.call("config", "show", "--json").json["keys"]}
    assert keys["destination.url"]["value"] == sqlite_world.url
    assert keys["destination.url"]["origin"] == "default"
    assert keys["destination.prefix"]["value"] == "ns_"


def test_without_records_the_rest_is_shown(sqlite_world: World) -> None:
    sqlite_world.config.write_text(sqlite_world.config.read_text().replace(RECORDS, ""))
    said = sqlite_world.call("config", "show")
    assert said.code == ExitCode.OK
    assert said.out.endswith("no record is configured: `waveimport discover` prints what the account has\n")


def test_mistakes_are_told_as_ever(sqlite_world: World) -> None:
    sqlite_world.configure(run="page_sise = 3")
    said = sqlite_world.call("config", "show")
    assert (said.code, said.out) == (ExitCode.USAGE, "")
    assert "unknown key `page_sise` in [run]" in said.err
