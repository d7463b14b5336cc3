"""A simulated account as a program holds it: started, asked, given faults, stopped."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import TracebackType

from waveimport.errors import UsageError
from waveimport.simulator.account_time import AccountTime
from waveimport.simulator.auth import Credentials, Login
from waveimport.simulator.changes import Changes
from waveimport.simulator.dataset import open_or_build
from waveimport.simulator.faults import Faults, Plan, check
from waveimport.simulator.queries import Queries
from waveimport.simulator.server import Account, AccountServer, LoggedRequest
from waveimport.simulator.tokens import TokenDesk, key_pair


class Simulator:
    """A simulated account, served by threads of this process while the `with` block lasts.

    `data` is the account's file, built at `scale` if it is not there; without it a temporary one is built and removed
    at the end. `port` 0 takes a free one. `live` serves a file that changes meanwhile, by a plan's `changes_every`
    (which needs it) or by others. Raises what building raises, and UsageError when the port is taken.
    """

    def __init__(
        self,
        *,
        data: Path | None = None,
        scale: float = 0.001,
        port: int = 0,
        faults: Faults | None = None,
        credentials: Credentials | None = None,
        progress: Callable[[str], None] | None = None,
        live: bool = False,
    ) -> None:
        self._live = live or (faults is not None and faults.changes_every > 0)
        self.credentials = credentials or Credentials()
        self.tokens = TokenDesk(self.credentials)
        self._private_key_file: Path | None = None
        self._scale = scale
        self._port = port
        self._faults = check(faults or Faults())
        self._progress = progress
        self._given = data
        self._cleanup = contextlib.ExitStack()
        self._server: AccountServer | None = None

    def __enter__(self) -> "Simulator":
        with contextlib.ExitStack() as stack:
            folder = self._given or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="waveimport-")))
            self.data = self._given or folder / "account.sqlite"
            open_or_build(self.data, self._scale, self._progress)
            self._server = self._start(stack)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def _start(self, stack: contextlib.ExitStack) -> AccountServer:
        account = self._account(self._faults)
        try:
            server = AccountServer(self._port, account, Login(self.credentials), self.tokens)
        except OSError as error:
            raise UsageError(
                f"the port {self._port} cannot be listened on: {error.strerror}",
                help="pass another --port, or 0 for any that is free",
            ) from None
        stack.callback(lambda: server.account.queries.close())
        stack.callback(server.server_close)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="simulator", daemon=True)
        thread.start()
        stack.callback(server.cut_connections)
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        return server

    def _account(self, faults: Faults) -> Account:
        times = AccountTime(faults.time_zone, faults.date_format)
        queries = Queries(self.data, faults.hidden, faults.row_cap, faults.cap_mode, times, live=self._live)
        if not faults.changes_every:
            return Account(queries, Plan(faults))
        if not self._live:
            raise UsageError("the plan changes an account that is served as it is", help="serve it live")
        return Account(queries, Plan(faults), Changes(self.data, faults.changes_seed))

    @property
    def server(self) -> AccountServer:
        """The running server."""
        assert self._server is not None, "the simulator runs inside its with block only"
        return self._server

    @property
    def base_url(self) -> str:
        """The origin that the importer is pointed at."""
        return self.server.base_url

    @property
    def requests(self) -> list[LoggedRequest]:
        """The latest 20,000 requests, oldest first."""
        return list(self.server.requests)

    @property
    def in_flight_peak(self) -> int:
        """The most requests that were ever in flight at once."""
        return self.server.in_flight_peak

    @property
    def private_key_file(self) -> Path:
        """The private key of the certificate, PEM, readable by its owner only; made when it is first asked for, and
        removed at the end."""
        if self._private_key_file is None:
            assert self._server is not None, "the simulator runs inside its with block only"
            folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="waveimport-"))
            private, public = key_pair()
            self.tokens.certify(self.credentials.certificate_id, public)
            path = Path(folder) / "private-key.pem"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(private)
            self._private_key_file = path
        return self._private_key_file

    @property
    def reached_by(self) -> dict[str, str]:
        """The keys of the configuration's `[netsuite]` for this account, for both ways to log in."""
        return {"base_url": self.base_url, "account": self.credentials.account, **self._tba(), **self._m2m()}

    def _tba(self) -> dict[str, str]:
        given = self.credentials
        return {
            "consumer_key": given.consumer_key,
            "consumer_secret": given.consumer_secret,
            "token_id": given.token_id,
            "token_secret": given.token_secret,
        }

    def _m2m(self) -> dict[str, str]:
        given = self.credentials
        return {
            "client_id": given.client_id,
            "certificate_id": given.certificate_id,
            "private_key_file": str(self.private_key_file),
        }

    def set_faults(self, faults: Faults) -> None:
        """Put another plan into force, from the next request on; its `times` count from zero."""
        self.server.account = self._account(check(faults))

    def netsuite_toml(self, auth: str = "tba") -> str:
        """Return the configuration's `[netsuite]` table that reaches this account, logging in by "tba" or "m2m"."""
        keys = {"auth": auth, "account": self.credentials.account, "base_url": self.base_url}
        keys |= self._m2m() if auth == "m2m" else self._tba()
        return "\n".join(["[netsuite]", *(f'{key} = "{value}"' for key, value in keys.items()), ""])


def records_toml() -> str:
    """Return the configuration's `[records.*]` tables that import this account."""
    return resources.files("waveimport.simulator").joinpath("records.toml").read_text(encoding="utf-8")
