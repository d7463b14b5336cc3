"""The folder of the demo: its configuration, its account and its database, made once and used again."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import tomlkit
from tomlkit.exceptions import TOMLKitError

from waveimport.errors import BadToml, FileExists, MissingExtra, UsageError

MARK: Final = "# Written by `waveimport demo`."
_TEXT: Final = (
    MARK
    + """ It imports a simulated account, which the demo serves while it runs.

[database]
url = "sqlite:///waveimport.db"

[netsuite]

[run]
# workers = 8

"""
)
_NEEDED: Final = ("oauthlib", "sqlglot")


class DemoFolder:
    """A folder that is the demo's: new, empty, or left by an earlier demo. Paths are as the user wrote the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "waveimport.toml"
        self.database = path / "waveimport.db"
        self.data = path / "account.sqlite"

    def claim(self, scale: float, records: str) -> None:
        """Make the folder with a configuration that marks it, or check that it is the demo's and of this scale.

        `records` are the `[records.*]` tables of a new configuration; one that is there is left as it is.

        Raises MissingExtra without what the simulated account needs, FileExists for a folder of somebody else's,
        UsageError for a demo of another scale.
        """
        for name in _NEEDED:
            if find_spec(name) is None:
                raise MissingExtra(
                    f"the simulated account needs {name}, which is not installed", help="pip install 'waveimport[demo]'"
                )
        if self.path.exists() and not self._is_ours():
            raise FileExists(
                f"{self.path} is there already, and no demo made it", help="name another folder by --keep, or move it"
            )
        from waveimport.simulator.dataset import built_scale

        if self.data.exists() and (held := built_scale(self.data)) != scale:
            raise UsageError(
                f"{self.path} holds a demo of scale {held:g}, not {scale:g}",
                help=f"pass --scale {held:g} to go on with it, or --keep another folder",
            )
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.config.exists():
                self.config.touch(mode=0o600)
                self.config.write_text(_TEXT + records, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"the folder {self.path} cannot be used: {error.strerror}", help="name another folder by --keep"
            ) from error

    def _is_ours(self) -> bool:
        if not self.path.is_dir():
            return False
        if self.config.is_file():
            return self.config.read_text(encoding="utf-8", errors="replace").startswith(MARK)
        return not any(self.path.iterdir())

    @property
    def port(self) -> int | None:
        """The port at which the account was served last, None where there was none."""
        try:
            return urlsplit(str(self._document().get("netsuite", {}).get("base_url", ""))).port
        except ValueError:
            return None

    def configure(self, reached_by: Mapping[str, str]) -> None:
        """Write the account's address and credentials into the configuration; what the user changed in it stays.

        Raises BadToml when it can no longer be read.
        """
        document = self._document()
        section = document.setdefault("netsuite", tomlkit.table())
        section.update(reached_by)
        self.config.write_text(tomlkit.dumps(document), encoding="utf-8")

    def _document(self) -> tomlkit.TOMLDocument:
        try:
            return tomlkit.parse(self.config.read_text(encoding="utf-8"))
        except (TOMLKitError, UnicodeDecodeError) as error:
            raise BadToml(
                f"the demo's configuration is not valid TOML: {error}",
                where=str(self.config),
                help="mend it, or delete the file and the demo writes it anew",
            ) from None
