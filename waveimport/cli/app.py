"""What every command gets: the options that stand before the command's name, and the settings they lead to."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import click

if TYPE_CHECKING:
    from waveimport.core.settings import Settings

_SHORTEST_SECRET = 4
_HIDDEN = "***"


@dataclass(slots=True)
class App:
    """The context object of a call; commands take it by `@click.pass_obj`.

    `verbosity` is -1 under `-q`, else the number of `-v`; `log_format` is text or json. `config` is None where
    neither `--config` nor the environment names a file.
    """

    config: Path | None = None
    verbosity: int = 0
    log_format: str = "text"
    _secrets: set[str] = field(default_factory=set, repr=False)

    def settings(self, *, secrets: bool, with_records: bool = True) -> "Settings":
        """Load the configuration; with `secrets` the credentials too, without `with_records` no records.

        Warnings go to stderr.

        Raises ConfigError and its kinds. What is loaded is remembered, so that `scrub` can take it out of any text.
        """
        from waveimport.runtime.config import load_settings

        settings = load_settings(self.config, os.environ, secrets=secrets, with_records=with_records, warn=self._warn)
        netsuite = settings.netsuite
        self.keep_secret(netsuite.consumer_key, netsuite.consumer_secret, netsuite.client_id)
        self.keep_secret(netsuite.token_id, netsuite.token_secret, netsuite.certificate_id)
        # Line by line, for a part of a key gives it away; the first and the last are the same in every key.
        self.keep_secret(*netsuite.private_key.splitlines()[1:-1])
        self.keep_secret(settings.notify.ping_url, settings.notify.webhook_url)
        for database in (settings.database, settings.destination):
            if database and not database.url.startswith("sqlite:"):
                password = urlsplit(database.url).password or ""
                self.keep_secret(password, unquote(password))
        return settings

    def _warn(self, message: str) -> None:
        if self.verbosity >= 0:
            click.echo(f"warning: {message}", err=True)

    def keep_secret(self, *values: str) -> None:
        """Remember values that no output may hold; those of under four characters would blot out innocent text."""
        self._secrets.update(value for value in values if len(value) >= _SHORTEST_SECRET)

    def scrub(self, text: str) -> str:
        """Return `text` with every known secret replaced by `***`."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
        return text
