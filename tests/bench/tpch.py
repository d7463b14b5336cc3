"""Import the simulated account at a scale and let TPC-H's published answers check it from outside.

    python tests/bench/tpch.py --scale 1 --data account.sqlite sqlite:///tpch.db
    python tests/bench/tpch.py --scale 1 --data account.sqlite mysql+pymysql://root@127.0.0.1/tpch

The account is served by a process of its own, the import is `waveimport run` in another, whose peak memory is taken
from the operating system. At scale 1 the answers of queries 1, 3, 5 and 6 are compared with those that the TPC-H
specification publishes (validation parameters); at any scale with the account's own file, asked directly.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from project import Project, plain_query

# Exact on both databases: cents and hundredths as integers, divided only in the end.
_CENTS = "CAST(ROUND(l.netamount * 100) AS {int})"
_LEFT = "(100 - CAST(ROUND(l.custcol_discount * 100) AS {int}))"
_TAXED = "(100 + CAST(ROUND(l.custcol_tax * 100) AS {int}))"

QUERIES = {
    1: f"""
        SELECT l.custcol_returnflag, l.custcol_linestatus, SUM(l.quantity), SUM({_CENTS}),
               SUM({_CENTS} * {_LEFT}), SUM({_CENTS} * {_LEFT} * {_TAXED}), COUNT(*)
        FROM {{line}} l JOIN {{order}} o ON o.id = l.{{transaction}}
        WHERE o.type = 'SalesOrd' AND l.custcol_shipdate <= '1998-09-02'
        GROUP BY l.custcol_returnflag, l.custcol_linestatus
        ORDER BY l.custcol_returnflag, l.custcol_linestatus""",
    3: f"""
        SELECT o.custbody_orderkey, SUM({_CENTS} * {_LEFT}) AS revenue, o.trandate, o.custbody_shippriority
        FROM customer c JOIN {{order}} o ON o.entity = c.id JOIN {{line}} l ON l.{{transaction}} = o.id
        WHERE o.type = 'SalesOrd' AND c.custentity_mktsegment = 'BUILDING' AND o.trandate < '1995-03-15'
              AND l.custcol_shipdate > '1995-03-15'
        GROUP BY o.custbody_orderkey, o.trandate, o.custbody_shippriority
        ORDER BY revenue DESC, o.trandate LIMIT 10""",
    5: f"""
        SELECT n.name, SUM({_CENTS} * {_LEFT}) AS revenue
        FROM {{order}} o JOIN customer c ON c.id = o.entity JOIN {{line}} l ON l.{{transaction}} = o.id
             JOIN vendor v ON v.id = l.custcol_supplier AND v.subsidiary = c.subsidiary
             JOIN subsidiary n ON n.id = v.subsidiary JOIN subsidiary r ON r.id = n.parent
        WHERE o.type = 'SalesOrd' AND r.name = 'ASIA' AND o.trandate >= '1994-01-01' AND o.trandate < '1995-01-01'
        GROUP BY n.name ORDER BY revenue DESC""",
    6: """
        SELECT SUM(CAST(ROUND(l.netamount * 100) AS {int}) * CAST(ROUND(l.custcol_discount * 100) AS {int}))
        FROM {line} l JOIN {order} o ON o.id = l.{transaction}
        WHERE o.type = 'SalesOrd' AND l.custcol_shipdate >= '1994-01-01' AND l.custcol_shipdate < '1995-01-01'
              AND l.custcol_discount BETWEEN 0.05 AND 0.07 AND l.quantity < 24""",
}
"""The queries over an import; money is in hundredths to the power of its factors."""

# TPC-H specification, answer set at scale 1: sums as published, averages left out (they follow from the sums).
PUBLISHED: dict[int, list[tuple[Any, ...]]] = {
    1: [
        ("A", "F", "37734107", "56586554400.73", "53758257134.8700", "55909065222.827692", 1478493),
        ("N", "F", "991417", "1487504710.38", "1413082168.0541", "1469649223.194375", 38854),
        ("N", "O", "74476040", "111701729697.74", "106118230307.6056", "110367043872.497010", 2920374),
        ("R", "F", "37719753", "56568041380.90", "53741292684.6040", "55889619119.831932", 1478870),
    ],
    3: [
        (2456423, "406181.0111", "1995-03-05", 0),
        (3459808, "405838.6989", "1995-03-04", 0),
        (492164, "390324.0610", "1995-02-19", 0),
        (1188320, "384537.9359", "1995-03-09", 0),
        (2435712, "378673.0558", "1995-02-26", 0),
        (4878020, "378376.7952", "1995-03-12", 0),
        (5521732, "375153.9215", "1995-03-13", 0),
        (2628192, "373133.3094", "1995-02-22", 0),
        (993600, "371407.4595", "1995-03-05", 0),
        (2300070, "367371.1452", "1995-03-13", 0),
    ],
    5: [
        ("INDONESIA", "55502041.17"),
        ("VIETNAM", "55295087.00"),
        ("CHINA", "53724494.26"),
        ("INDIA", "52035512.00"),
        ("JAPAN", "45410175.70"),
    ],
    6: [("123141078.2283",)],
}


def answers(query: int, url: str) -> list[tuple[Any, ...]]:
    """Return the answer of a TPC-H query over an import, in the form in which it is published."""
    mysql = not url.startswith("sqlite")
    words = {
        "int": "SIGNED" if mysql else "INTEGER",
        "line": "salesorderline",
        "order": "salesorder",
        "transaction": "`transaction`",
    }
    rows = list(plain_query(url, QUERIES[query].format(**words)))
    return [_published_form(query, row) for row in rows]


def source_answers(query: int, account: Path) -> list[tuple[Any, ...]]:
    """Return the answer of a TPC-H query over the account's own file."""
    words = {"int": "INTEGER", "line": "transactionline", "order": '"transaction"', "transaction": '"transaction"'}
    rows = list(plain_query(f"sqlite:///{account}", QUERIES[query].format(**words)))
    return [_published_form(query, row) for row in rows]


def _published_form(query: int, row: tuple[Any, ...]) -> tuple[Any, ...]:
    if query == 1:
        flag, status, quantity, base, discounted, charged, count = row
        return (flag, status, str(int(quantity)), _money(base, 2), _money(discounted, 4), _money(charged, 6), count)
    if query == 3:
        return (row[0], _money(row[1], 4), str(row[2]), row[3])
    if query == 5:
        return (row[0], f"{Decimal(_money(row[1], 4)):.2f}")
    return (_money(row[0], 4),)


def _money(value: Any, places: int) -> str:
    return str(Decimal(int(value or 0)).scaleb(-places).quantize(Decimal(1).scaleb(-places)))


@contextlib.contextmanager
def served(data: Path, scale: float) -> Iterator[str]:
    """Serve the account in a process of its own; yield the `[netsuite]` table that reaches it."""
    command = [sys.executable, "-m", "waveimport", "simulate", "--scale", str(scale), "--data", str(data)]
    process = subprocess.Popen([*command, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        keys = ("account", "base_url", "consumer_key", "consumer_secret", "token_id", "token_secret")
        yield "[netsuite]\n" + "\n".join(f'{key} = "{ready[key]}"' for key in keys) + "\n"
    finally:
        process.terminate()
        process.wait(30)


def timed_run(project: Project) -> tuple[dict[str, Any], float, float, float]:
    """Run an import; return the job, seconds, CPU seconds, and peak resident MB of the importing process."""
    began = time.monotonic()
    with (project.folder / "out").open("w+") as out:
        process = subprocess.Popen(project.command("run", "--json"), stdout=out, stdin=subprocess.DEVNULL)
        _, code, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        out.seek(0)
        text = out.read()
    if os.waitstatus_to_exitcode(code) != 0:
        raise SystemExit(f"the import ended with {os.waitstatus_to_exitcode(code)}: {text}")
    return json.loads(text), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="destination: an empty SQLite file or MySQL database")
    parser.add_argument("--scale", type=float, default=0.01)
    parser.add_argument("--data", type=Path, help="the account's file, kept for the next time")
    parser.add_argument("--run", default="", help="keys of [run], e.g. 'workers = 4'")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder) / "account.sqlite"
        with served(data, options.scale) as netsuite:
            project = Project(Path(folder), options.url, netsuite, run=options.run)
            job, seconds, cpu, peak = timed_run(project)
        rate = job["rows"] / seconds
        print(f"{job['rows']:,} rows in {seconds:.1f} s, {rate:,.0f} rows/s, {cpu:.1f} s CPU, peak {peak:.0f} MB")
        wrong = 0
        for query in QUERIES:
            began = time.monotonic()
            got = answers(query, options.url)
            expected = PUBLISHED[query] if options.scale == 1 else source_answers(query, data)
            same = got == expected
            wrong += not same
            against = "as published" if options.scale == 1 else "as at the source"
            print(f"query {query}: {against if same else f'DIFFERS: {got} is not {expected}'}"
                  f" ({time.monotonic() - began:.1f} s)")  # fmt: skip
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
