"""The standard records: what `presets.toml` says makes a configuration, with a graph that has an order."""

import tomllib

from waveimport.core.discovered import FoundRecord, link, toml_lines
from waveimport.core.graph import plan_waves
from waveimport.core.presets import Preset
from waveimport.core.settings import Settings, parse_settings
from waveimport.core.waves import WaveKind
from waveimport.runtime.discovery import load_presets

PRESETS = load_presets()
HEAD = {
    "database": {"url": "sqlite://"},
    "netsuite": dict.fromkeys(("account", "consumer_key", "consumer_secret", "token_id", "token_secret"), "x"),
}


def found(preset: Preset) -> FoundRecord:
    """The record of an account that has all of it."""
    return FoundRecord(
        preset.name, preset.table, preset.columns, preset.key, preset.where, preset.depends_on,
        preset.derived_from, preset.parent_key, preset.cursor,
    )  # fmt: skip


def settings(*records: FoundRecord) -> Settings:
    return parse_settings({**HEAD, **tomllib.loads("\n".join(toml_lines(records)))})


def test_all_presets_together_are_one_configuration() -> None:
    loaded = settings(*map(found, PRESETS.by_name.values()))
    assert [record.name for record in loaded.records] == list(PRESETS.by_name)
    for record, preset in zip(loaded.records, PRESETS.by_name.values(), strict=True):
        assert (record.table, record.key, record.where) == (preset.table, preset.key, preset.where)
        assert (record.derived_from, record.parent_key, record.cursor) == (
            preset.derived_from, preset.parent_key, preset.cursor,
        )  # fmt: skip
        assert record.depends_on == preset.depends_on


def test_the_waves_come_in_the_order_of_the_foreign_keys() -> None:
    waves = plan_waves(settings(*map(found, PRESETS.by_name.values())).records)
    wave_of = {name: wave.wave_number for wave in waves for name in wave.records}
    order = ["currency", "subsidiary", "department", "employee", "customer", "salesorder", "salesorderline"]
    assert sorted(order, key=wave_of.__getitem__) == order
    assert len({wave_of[name] for name in order}) == len(order)
    assert all(wave.kind is WaveKind.DERIVED for wave in waves for name in wave.records if name.endswith("line"))


def test_every_preset_stands_behind_what_it_depends_on_and_never_depends_on_itself() -> None:
    before: set[str] = set()
    for preset in PRESETS.by_name.values():
        needs = {*preset.depends_on, *([preset.derived_from] if preset.derived_from else [])}
        assert needs <= before, preset.name
        before.add(preset.name)


def test_a_family_is_a_transaction_with_its_lines_whichever_of_them_is_named() -> None:
    names = ["salesorder", "salesorderline", "salesorderaccountingline"]
    for name in names:
        assert [preset.name for preset in PRESETS.family(name)] == names
    assert [preset.name for preset in PRESETS.family("customer")] == ["customer"]
    assert PRESETS.by_name["salesorder"].where == "type = 'SalesOrd'"
    assert PRESETS.by_name["transaction"].where is None
    assert "transaction" not in [preset.name for preset in PRESETS.mains]


def test_every_preset_says_of_its_key_and_cursor_what_they_are() -> None:
    for preset in PRESETS.by_name.values():
        assert all(preset.columns[name] == "integer" for name in preset.key), preset.name
        assert preset.cursor is None or preset.columns[preset.cursor] == "timestamp", preset.name


def test_dependencies_on_what_is_not_there_are_dropped_and_told_unless_nothing_can_be_done() -> None:
    order = found(PRESETS.by_name["salesorder"])
    customer = found(PRESETS.by_name["customer"])
    linked = link([customer, order], absent_for_good=["subsidiary", "accountingperiod"])
    assert [record.depends_on for record in linked] == [(), ("customer",)]
    assert linked[1].remarks == ("it refers to currency, employee: import those too, and name them in depends_on",)


def test_a_remark_cannot_break_out_of_its_comment() -> None:
    remark = 'said\n[netsuite]\r\naccount = "x"\u2028\x00' + " long" * 40
    lines = list(toml_lines([FoundRecord("r", "r", {"id": "integer"}, ("id",), remarks=(remark,))], [remark]))
    assert tomllib.loads("\n".join(lines)) == {"records": {"r": {"columns": {"id": "integer"}}}}
    assert max(map(len, lines)) <= 120
