"""`waveimport init`: a starter configuration that works once its variables are set, its key is there and it has
records."""

import os
import shlex
from pathlib import Path
from typing import Final

import click

from waveimport.cli.app import App
from waveimport.errors import FileExists, UsageError

DEFAULT_FILE: Final = Path("waveimport.toml")

STARTER: Final = """\
# Configuration of waveimport. Relative paths start at this file's folder.
# ${NAME} is read from the environment; a key ending in _file, such as client_id_file, reads a file instead.

# profile = "1234567_SB1"          # name of this import; default: the account

[database]                         # progress of the import, and the imported rows unless [destination] says otherwise
url = "sqlite:///waveimport.db"
# url = "mysql+pymysql://waveimport@127.0.0.1/netsuite"
# password = "${WAVEIMPORT_DB_PASSWORD}"   # or password_file; overrides a password in the url

# [destination]                    # another database for the imported rows
# url = "mysql+pymysql://waveimport@127.0.0.1/warehouse"
# prefix = "ns_"                   # of every destination table

[netsuite]
account = "1234567_SB1"            # Setup > Company > Company Information > Account ID
# OAuth 2.0 machine-to-machine: Setup > Integration > Manage Authentication > OAuth 2.0 Client Credentials (M2M) Setup
auth = "m2m"
client_id = "${NETSUITE_CLIENT_ID}"             # of the integration record
certificate_id = "${NETSUITE_CERTIFICATE_ID}"   # of the certificate that is mapped to user and role
private_key_file = "netsuite-key.pem"           # of that certificate: PEM, no passphrase, chmod 600
# algorithm = "PS256"              # PS256, PS384, PS512 for RSA; ES256, ES384, ES512 for P-256, P-384, P-521
# Or token-based authentication, where an integration has it: from NetSuite 2027.1 on no new one gets it.
# auth = "tba"
# consumer_key = "${NETSUITE_CONSUMER_KEY}"
# consumer_secret = "${NETSUITE_CONSUMER_SECRET}"
# token_id = "${NETSUITE_TOKEN_ID}"
# token_secret = "${NETSUITE_TOKEN_SECRET}"
# base_url = "http://127.0.0.1:8765"   # only for a simulated account: `waveimport simulate`
concurrency = 5                    # requests in flight at most; fewer while NetSuite answers 429

[run]                              # each line is the default
# workers = 8
# page_size = 1000                 # rows a request, at most 1000
# batch_size = 5000                # rows a batch of a main record aims at
# parents_per_batch = 500          # parent ids a batch of a derived record carries, at most 1000
# lease_seconds = 60               # how soon another host takes over from a dead one
# max_tries = 5                    # refusals after which a batch has failed
# request_timeout_seconds = 900
# give_up_after_seconds = 600      # without one success: stop; the next run goes on
# reconcile = true                 # count at the source, compare with what landed
# stuck_after_seconds = 300
# passes_without_effect = 100
# lock_dir = "locks"
# complete_within_hours = 0        # alert: no import was complete for so long; 26 suits a nightly one, 0 is no alert
# lookback_seconds = 600           # an incremental run reads so much again before where the last one began
# journal_days = 90                # of older jobs `run` deletes the journal; 0 keeps all
# reader_processes = 3             # that read pages beside the run, where the source is fast; at most one a processor

# Whom to tell how runs begin and end; that this fails is a warning, and fails no run.
# [notify]
# ping_url = "${WAVEIMPORT_PING_URL}"       # as healthchecks.io takes it: /start, /fail, and itself for success
# webhook_url = "${WAVEIMPORT_WEBHOOK_URL}" # gets JSON: event, exit_code, message, and the job of `status --json`
# command = ["/usr/local/bin/tell"]         # that JSON on its stdin, WAVEIMPORT_EVENT in its environment

# What to import. `waveimport discover` lists what the account has, and prints it as tables to paste here.
# All of it, with its dependencies, is put here by: waveimport discover --all >> waveimport.toml
# By hand it is one [records.<name>] for each table; every column of `key` and `parent_key` must be among its columns.
# Types of columns: text, integer, boolean, decimal(p,s), float, date, timestamp.

# [records.customer]
# key = "id"                       # the default; a list of columns if only together they are unique
# cursor = "lastmodifieddate"      # after the first import, runs read only what has changed since
# deletes = "hard"                 # rows that are gone go; "soft" marks them in _deleted_at, "ignore" keeps them
# refresh = "in_place"             # a full read goes row by row; "swap" loads beside the table and swaps at the end
# columns = { id = "integer", entityid = "text", companyname = "text", email = "text", isinactive = "boolean", \
lastmodifieddate = "timestamp" }

# [records.salesorder]
# table = "transaction"            # the SuiteQL table; default: the record's name
# where = "type = 'SalesOrd'"
# depends_on = ["customer"]        # imported after customers
# cursor = "lastmodifieddate"
# columns = { id = "integer", tranid = "text", trandate = "date", entity = "integer", status = "text", \
foreigntotal = "decimal(20,2)", lastmodifieddate = "timestamp" }

# [records.salesorderline]
# table = "transactionline"
# key = "uniquekey"
# derived_from = "salesorder"      # fetched for the sales orders that have landed, while others still do
# parent_key = "transaction"       # the column that holds the sales order's key
# columns = { uniquekey = "integer", transaction = "integer", id = "integer", item = "integer", \
quantity = "decimal(20,5)", netamount = "decimal(20,2)", memo = "text" }
"""


@click.command("init")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def command(app: App, file: Path | None) -> None:
    """Write a commented starter configuration to FILE, by default waveimport.toml; never overwrite."""
    target = file or app.config or DEFAULT_FILE
    write_new(target, STARTER)
    option = "" if target == DEFAULT_FILE else f" --config {shlex.quote(str(target))}"
    click.echo(f"wrote {target}")
    click.echo("next: set the account in it, export NETSUITE_CLIENT_ID and NETSUITE_CERTIFICATE_ID, put the private\n"
               "key of the certificate beside it as netsuite-key.pem, mode 600; then put into it what the\n"
               "account has, and try it:\n"
               f"  waveimport{option} discover --all >> {shlex.quote(str(target))}\n"
               f"  waveimport{option} check")  # fmt: skip


def write_new(path: Path, text: str) -> None:
    """Write a file that did not exist, readable by its owner only. Raises FileExists, or UsageError if it cannot."""
    try:
        # Exclusive: of two writers at once one loses, and no link is followed to a file elsewhere.
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise FileExists(f"{path} exists already, and is left as it is",
                         help="name another file: waveimport init FILE") from None  # fmt: skip
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}",
                         help="name a file in a folder that exists and that you may write to") from error  # fmt: skip
    with os.fdopen(opened, "w", encoding="utf-8") as file:
        file.write(text)
