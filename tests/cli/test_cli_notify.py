"""`[notify]`: whoever is to know learns how a run began and ended, and nothing about that can fail the run."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cli_world import CANARY, World

from waveimport.errors import ExitCode
from waveimport.runtime import importer, notify
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator


class Listener:
    """Takes what is posted to it, and answers with `status`."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.status = 200
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                listener.heard.append((self.path, body))
                self.send_response(listener.status)
                self.end_headers()

            def log_message(self, *given: Any) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.server.shutdown()
    made.server.server_close()


def notified(world: World, account: Simulator, notify: str) -> None:
    world.configure(account.netsuite_toml() + f"\n[notify]\n{notify}\n", top='profile = "p"')


def test_a_run_that_succeeds_is_told_at_its_start_and_end(world: World, account: Simulator, listener: Listener) -> None:
    told = world.folder / "told"
    script = (
        "import sys,os; print(os.environ['WAVEIMPORT_EVENT'], len(sys.stdin.read()) > 9, file=open(sys.argv[1], 'a'))"
    )
    notified(
        world,
        account,
        f'ping_url = "{listener.url}/ping/{CANARY}/"\nwebhook_url = "{listener.url}/hook"\n'
        f"command = {json.dumps([sys.executable, '-c', script, str(told)])}",
    )
    said = world.call("run")
    assert said.code == ExitCode.OK, said.err
    pings = [path for path, _ in listener.heard if path.startswith("/ping")]
    assert pings == [f"/ping/{CANARY}/start", f"/ping/{CANARY}"]
    hooks = [json.loads(body) for path, body in listener.heard if path == "/hook"]
    assert [hook["event"] for hook in hooks] == ["start", "success"]
    assert (hooks[1]["exit_code"], hooks[1]["profile"], hooks[1]["job"]["status"]) == (0, "p", "completed")
    assert told.read_text().split("\n")[:2] == ["start True", "success True"]


def test_a_run_that_fails_is_told_with_its_reason_whatever_it_is(
    world: World, account: Simulator, listener: Listener
) -> None:
    account.set_faults(Faults(hidden_columns=("customer.balance",)))
    notified(world, account, f'webhook_url = "{listener.url}/hook"\nping_url = "{listener.url}/ping"')
    assert world.call("run").code == ExitCode.INCOMPLETE
    told = json.loads(next(body for path, body in reversed(listener.heard) if path == "/hook"))
    assert (told["event"], told["exit_code"], told["job"]["status"]) == ("fail", 3, "failed")
    assert listener.heard[-2][0] == "/ping/fail"
    listener.heard.clear()
    world.configure(
        account.netsuite_toml() + f'\n[notify]\nping_url = "{listener.url}/ping"\n',
        url="mysql+pymysql://root@127.0.0.1:9/none",
    )
    assert world.call("run").code == ExitCode.UNREACHABLE
    assert [path for path, _ in listener.heard] == ["/ping/fail"], "it never came to a job"


def test_that_nobody_listens_fails_no_run_and_tells_no_secret(
    sqlite_world: World, account: Simulator, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    listener.status = 500
    notified(
        sqlite_world,
        account,
        f'ping_url = "http://127.0.0.1:9/{CANARY}"\nwebhook_url = "{listener.url}/{CANARY}"\n'
        'command = ["/nowhere/tell"]',
    )
    said = sqlite_world.call("run")
    assert said.code == ExitCode.OK
    for words in ("ping of [notify] failed: ConnectionError", "it answered 500", "there is no such program"):
        assert words in said.err + caplog.text
    assert CANARY not in caplog.text


def test_status_needs_no_variable_of_it_and_a_mistake_is_told(sqlite_world: World, account: Simulator) -> None:
    notified(sqlite_world, account, 'ping_url = "${NO_SUCH_VARIABLE_HERE}"')
    assert sqlite_world.call("status").code == ExitCode.OK
    said = sqlite_world.call("run")
    assert (said.code, "NO_SUCH_VARIABLE_HERE" in said.err) == (ExitCode.USAGE, True)
    notified(sqlite_world, account, 'ping_url = "ftp://x"\ncommand = "tell me"\nwebhok_url = "x"')
    said = sqlite_world.call("status")
    assert said.code == ExitCode.USAGE
    for words in ("an http or https address", "a list of texts, the program first", "did you mean `webhook_url`?"):
        assert words in said.err


def test_whoever_never_ends_to_listen_does_not_hold_the_run(
    sqlite_world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "PATIENCE_SECONDS", 0.3)
    script = "import time; time.sleep(8)"
    notified(sqlite_world, account, f"command = {json.dumps([sys.executable, '-c', script])}")
    began = time.monotonic()
    assert sqlite_world.call("run").code == ExitCode.OK
    assert time.monotonic() - began < 7


def test_a_fault_of_ours_is_told_as_well(
    sqlite_world: World, account: Simulator, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object, **how: object) -> None:
        raise AssertionError("a fault")

    monkeypatch.setattr(importer, "run_import", broken)
    notified(sqlite_world, account, f'webhook_url = "{listener.url}/hook"')
    assert sqlite_world.call("run").code == ExitCode.FAULT
    assert [json.loads(body)["event"] for _, body in listener.heard] == ["fail"]
