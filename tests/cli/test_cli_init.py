"""`waveimport init`: a starter that works, written once and readable by its owner only."""

import re
import stat
from pathlib import Path

import pytest
from netsuite_keys import pem

from waveimport.cli.init import STARTER
from waveimport.cli.main import run
from waveimport.core.settings import CREDENTIAL_KEYS, RunSettings
from waveimport.errors import BadSecret, ConfigErrors, ExitCode, MissingKey
from waveimport.runtime.config import load_settings

VARIABLES = {
    "NETSUITE_CLIENT_ID": "a",
    "NETSUITE_CERTIFICATE_ID": "b",
    "WAVEIMPORT_PING_URL": "https://hc.example/a",
    "WAVEIMPORT_WEBHOOK_URL": "https://hook.example/a",
}
TBA_VARIABLES = {
    "NETSUITE_CONSUMER_KEY": "a",
    "NETSUITE_CONSUMER_SECRET": "b",
    "NETSUITE_TOKEN_ID": "c",
    "NETSUITE_TOKEN_SECRET": "d",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAVEIMPORT_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def key_file(folder: Path) -> Path:
    path = folder / "netsuite-key.pem"
    path.touch(mode=0o600)
    path.write_text(pem("RSA 3072"))
    return path


def test_the_file_written_is_a_configuration_that_lacks_records_only(folder: Path, key_file: Path) -> None:
    assert run(["init"]) == ExitCode.OK
    with pytest.raises(MissingKey, match="no record is configured") as caught:
        load_settings(None, VARIABLES, secrets=True)
    assert "waveimport discover" in str(caught.value.help)
    settings = load_settings(None, VARIABLES, secrets=True, with_records=False)
    assert settings.database.url == f"sqlite:///{folder}/waveimport.db"
    assert (settings.netsuite.auth, settings.netsuite.algorithm) == ("m2m", "PS256")
    assert [getattr(settings.netsuite, key) for key in CREDENTIAL_KEYS] == ["", "", "", "", "a", "b"]
    assert settings.netsuite.private_key_file == str(key_file)


def test_the_alternative_in_it_is_token_based_authentication(folder: Path) -> None:
    """As a user would do it who has tokens: his five lines in force, those of the certificate out."""
    tba = ("auth", "consumer_key", "consumer_secret", "token_id", "token_secret")
    m2m = ("auth", "client_id", "certificate_id", "private_key_file")
    lines = [re.sub(rf"^({'|'.join(m2m)}) = ", r"# \1 = ", line) for line in STARTER.splitlines()]
    lines = [line for line in lines if not line.startswith('# auth = "m2m"')]
    (folder / "w.toml").write_text("\n".join(re.sub(rf"^# ({'|'.join(tba)}) = ", r"\1 = ", line) for line in lines))
    netsuite = load_settings(folder / "w.toml", TBA_VARIABLES, secrets=True, with_records=False).netsuite
    assert netsuite.auth == "tba"
    assert [getattr(netsuite, key) for key in CREDENTIAL_KEYS] == ["a", "b", "c", "d", "", ""]


def test_the_next_step_names_every_variable_that_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "my file.toml"]) == ExitCode.OK
    out = capsys.readouterr().out
    with pytest.raises(ConfigErrors) as caught:
        load_settings(Path("my file.toml"), {}, secrets=True, with_records=False)
    assert {type(error) for error in caught.value.errors} == {BadSecret}
    assert len(caught.value.errors) == 3
    for error in caught.value.errors:
        named = re.search(r"variable (\w+),|/([\w.-]+) of `private_key_file`", error.message)
        assert named is not None
        assert (named[1] or named[2]) in out
    assert "waveimport --config 'my file.toml' discover --all >> 'my file.toml'\n" in out
    assert "waveimport --config 'my file.toml' check\n" in out


def test_only_the_owner_can_read_it(folder: Path) -> None:
    assert run(["init"]) == ExitCode.OK
    assert stat.S_IMODE((folder / "waveimport.toml").stat().st_mode) == 0o600


def test_it_never_overwrites(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "waveimport.toml").write_text("mine")
    assert run(["init"]) == ExitCode.USAGE
    assert (folder / "waveimport.toml").read_text() == "mine"
    assert capsys.readouterr().err.startswith("error[WI-USE-002]: waveimport.toml exists already")


def test_a_link_is_not_followed(folder: Path) -> None:
    (folder / "waveimport.toml").symlink_to(folder / "elsewhere")
    assert run(["init"]) == ExitCode.USAGE
    assert not (folder / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "gone/w.toml"]) == ExitCode.USAGE
    assert "gone/w.toml cannot be written: No such file or directory" in capsys.readouterr().err


def test_the_file_is_the_one_asked_for_else_the_configuration_in_force(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAVEIMPORT_CONFIG", "env.toml")
    assert run(["init"]) == ExitCode.OK
    assert run(["--config", "flag.toml", "init"]) == ExitCode.OK
    assert run(["--config", "unused.toml", "init", "named.toml"]) == ExitCode.OK
    assert {path.name for path in folder.iterdir()} == {"env.toml", "flag.toml", "named.toml"}


def test_what_it_says_is_the_default_is_the_default() -> None:
    section = STARTER.partition("[run]")[2].partition("# Whom to tell")[0]
    said = dict(re.findall(r"^# (\w+) = (\S+)", section, re.MULTILINE))
    assert set(said) == set(RunSettings.__dataclass_fields__)
    said.pop("lock_dir")  # depends on the machine; any folder is an example
    for key, value in said.items():
        default = getattr(RunSettings(), key)
        assert value == (str(default).lower() if isinstance(default, bool) else f"{default:g}"), key


def test_what_is_commented_out_is_valid_too(folder: Path, key_file: Path) -> None:
    # The destination, the profile and the run settings, as a user would uncomment them.
    text = re.sub(r"^# (?=\[?[a-z_]+\]? |\[)", "", STARTER, flags=re.MULTILINE)
    prose = re.compile(r"url = \"mysql\S+netsuite|password|base_url|For |Or |OAuth |auth = \"tba|consumer_|token_")
    keep = [line for line in text.splitlines() if not prose.match(line)]
    (folder / "w.toml").write_text("\n".join(keep))
    settings = load_settings(folder / "w.toml", VARIABLES, secrets=True)
    assert settings.prefix == "ns_"
    assert settings.run == RunSettings(lock_dir=str(folder / "locks"))
    assert [record.name for record in settings.records] == ["customer", "salesorder", "salesorderline"]
    assert settings.record("salesorderline").derived_from == "salesorder"
