"""dlt as a peer of the jobs J1 to J6, as its documentation would have them done, in an environment of its own.

`dlt_peer.py FOLDER` imports, says that it is ready, then does the job of each line of its input, as JSON, and answers
with the seconds that it took. What it is asked with is what `Asked` says. It imports nothing of ours.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import dlt
import sqlalchemy as sa
from dlt.sources.filesystem import filesystem, read_csv
from dlt.sources.rest_api import rest_api_source
from dlt.sources.sql_database import sql_table


class Asked(TypedDict):
    """From where, to where, and how it is written; `key` is that of a merge."""

    kind: str
    """sql, csv or api."""
    source: str
    """The server, the folder, or the address of the API."""
    what: str
    """A table or view, a file, or a path of the API."""
    destination: str
    """The server, or the folder that Parquet is written into."""
    dataset: str
    write: NotRequired[str]
    key: NotRequired[str]
    rows: NotRequired[int]
    """Of a page."""


def resource(asked: Asked) -> Any:
    """Rows by Arrow where dlt can; the columns keep their precision as it is reflected."""
    if asked["kind"] == "api":
        return _pages(asked)
    if asked["kind"] == "csv":
        return filesystem(asked["source"], file_glob=asked["what"]) | read_csv()
    engine = sa.create_engine(asked["source"].replace("postgresql://", "postgresql+psycopg2://", 1))
    return sql_table(
        engine, table=asked["what"], schema="public", backend="pyarrow", reflection_level="full_with_precision"
    )


def _pages(asked: Asked) -> Any:
    paginator = {"type": "page_number", "base_page": 1, "page_param": "page", "total_path": None}
    endpoint = {
        "path": asked["what"],
        "params": {"size": asked["rows"]},
        "data_selector": "items",
        "paginator": paginator,
    }
    return rest_api_source({
        "client": {"base_url": asked["source"]},
        "resources": [{"name": "orders", "endpoint": endpoint}],
    })  # fmt: skip


def work(asked: Asked, folder: Path, number: int) -> float:
    """Seconds of one job."""
    to = asked["destination"]
    parquet = not to.startswith("postgresql://")
    destination = dlt.destinations.filesystem(to) if parquet else dlt.destinations.postgres(to)
    pipeline = dlt.pipeline(
        f"peer_{number}", pipelines_dir=str(folder), destination=destination, dataset_name=asked["dataset"]
    )
    more: dict[str, Any] = {"loader_file_format": "parquet"} if parquet else {}
    if "key" in asked:
        more["primary_key"] = asked["key"]
    began = time.perf_counter()
    info = pipeline.run(resource(asked), table_name="target", write_disposition=asked.get("write", "append"), **more)
    info.raise_on_failed_jobs()
    return time.perf_counter() - began


if __name__ == "__main__":
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        print(json.dumps(work(json.loads(line), Path(sys.argv[1]), number)), flush=True)
