"""The same import by dlt: its REST source, tuned. Needs `pip install 'dlt[sqlalchemy]'`; no part of the test extra.

    python tests/bench/dlt_script.py URL --port PORT --orders N --lines N [--threads 4]

Pages by key, a resource for each part of a table so that parts are asked for at once, hints for the types, worker
processes and file sizes as they were found fastest. It appends to new tables, which is faster than a merge and all
that a first import needs. Prints JSON.
"""

import argparse
import json
import os
import tempfile
import time
from typing import Any

from byhand import PAGE, TABLES
from page_server import SUITEQL

HINTS = {"integer": "bigint", "boolean": "text", "text": "text", "date": "text", "timestamp": "text"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--lines", type=int, required=True)
    parser.add_argument("--threads", type=int, default=4)
    told = parser.parse_args()
    began = time.perf_counter()
    folder = tempfile.TemporaryDirectory()
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "EXTRACT__WORKERS": str(told.threads),
        "EXTRACT__MAX_PARALLEL_ITEMS": str(4 * told.threads),
        "NORMALIZE__WORKERS": "2",
        "LOAD__WORKERS": "1" if told.url.startswith("sqlite") else "4",
        "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "50000",
        "NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS": "50000",
        "DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
        "DLT_DATA_DIR": folder.name,
    }
    import dlt
    from dlt.sources.helpers.rest_client.paginators import BasePaginator
    from dlt.sources.rest_api import rest_api_source

    class ByKey(BasePaginator):
        """Asks for the page behind the last key, up to a highest one."""

        def __init__(self, source: str, columns: dict[str, str], lower: int, upper: int) -> None:
            super().__init__()
            self.source, self.columns, self.last, self.upper = source, columns, lower, upper
            self.key = next(iter(columns))

        def query(self) -> str:
            listed = ", ".join(f"t.{name}" for name in self.columns)
            within = f"t.{self.key} <= {self.upper} AND t.{self.key} > {self.last}"
            return f"SELECT {listed} FROM {self.source} t WHERE {within} ORDER BY t.{self.key}"

        def init_request(self, request: Any) -> None:
            request.json = {"q": self.query()}

        def update_state(self, response: Any, data: Any = None) -> None:
            if data:
                self.last = int(data[-1][self.key])
            self._has_next_page = bool(data) and self.last < self.upper

        def update_request(self, request: Any) -> None:
            request.json = {"q": self.query()}

    resources = []
    for table, source, columns in TABLES:
        count = told.orders if table == "salesorder" else told.lines
        for part in range(told.threads):
            lower, upper = count * part // told.threads, count * (part + 1) // told.threads
            resources.append(
                {
                    "name": f"{table}_{part}",
                    "table_name": table,
                    "write_disposition": "append",
                    "parallelized": True,
                    "columns": {
                        name: {"data_type": HINTS.get(kind, "decimal"), "precision": 15, "scale": 2}
                        if kind not in HINTS
                        else {"data_type": HINTS[kind]}
                        for name, kind in columns.items()
                    }
                    | {"links": {"data_type": "json"}},
                    "endpoint": {
                        "path": SUITEQL,
                        "method": "POST",
                        "params": {"limit": PAGE, "offset": 0},
                        "json": {"q": ""},
                        "data_selector": "items",
                        "paginator": ByKey(source, columns, lower, upper),
                    },
                }
            )
    source = rest_api_source({"client": {"base_url": f"http://127.0.0.1:{told.port}"}, "resources": resources})
    url = told.url.replace("sqlite:///", "sqlite:////") if "////" not in told.url and told.url[10] != "/" else told.url
    pipeline = dlt.pipeline(
        "bench",
        destination=dlt.destinations.sqlalchemy(url),
        dataset_name="main" if url.startswith("sqlite") else url.rsplit("/", 1)[1],
        pipelines_dir=folder.name,
    )
    pipeline.run(source)
    folder.cleanup()
    print(json.dumps({"rows": told.orders + told.lines, "seconds": round(time.perf_counter() - began, 3)}))


if __name__ == "__main__":
    main()
