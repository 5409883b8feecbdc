"""What is visible of a stream: the manifest, written last, with its files, receipts and cursors."""

import datetime
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

import pyarrow as pa

from dataaggregator.connector.destination import Begun, LoadRequest, Receipt, SchemaPolicy, WriteKind
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Conflict
from dataaggregator_connectors.files import evolving

RECEIPTS_KEPT = 1_000
"""At least so many, and of a load in chunks all or none: without some of them the others would tell of another load."""


@dataclass
class Manifest:
    """The state of one stream: names below the stream's folder, and by "run/chunk" and pipeline what was loaded."""

    label: str = ""
    files: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    """Where the load under way puts its files."""
    epochs: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, dict[str, Any]] = field(default_factory=dict)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    loading: dict[str, str] = field(default_factory=dict)
    """By pipeline the run whose load was begun last: what it has put in place is waited for."""
    arrow_schema: str = ""
    """The columns of what was loaded, as Arrow's IPC writes a schema, in base64; nothing before the first load."""

    @classmethod
    def of(cls, data: bytes | None, label: str = "") -> "Manifest":
        return cls(**json.loads(data)) if data is not None else cls(label)

    def bytes(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    def fence(self, load: LoadRequest) -> None:
        """Take the fence, or Conflict "lease-lost" where a newer attempt has it."""
        pipeline = str(load.pipeline_id)
        epoch = self.epochs.get(pipeline, load.epoch)
        if epoch > load.epoch:
            raise Conflict(
                "lease-lost",
                f"A newer attempt (epoch {epoch}) has taken over {load.stream}; this one had {load.epoch}.",
            )
        self.epochs[pipeline] = load.epoch
        self.loading[pipeline] = load.run_id.hex

    def begun(self, load: LoadRequest) -> Begun:
        """What the pipeline has committed so far."""
        held = self.cursors.get(str(load.pipeline_id), {})
        return Begun(
            cursors={name: Cursor.from_json(data) for name, data in held.items()},
            receipt=self.receipt(load),
            epochs={name: data["epoch"] for name, data in held.items() if "epoch" in data},
        )

    def add(self, load: LoadRequest, loaded: "Loaded", cursors: Mapping[str, Cursor]) -> Sequence[str]:
        """Name a load's files and what was loaded; the names of the files it replaces are answered."""
        kept = self.files if load.write is WriteKind.APPEND else []
        replaced = [name for name in self.files if name not in (*kept, *loaded.files)]
        self._forget({*replaced, *loaded.files})
        self.files = [*(name for name in kept if name not in loaded.files), *loaded.files]
        self.pending = []
        renewed = load.write is WriteKind.REPLACE and load.schema_policy in (SchemaPolicy.EVOLVE, SchemaPolicy.PAUSE)
        held = evolving.read(self.arrow_schema) if self.arrow_schema and not renewed else loaded.schema
        self.arrow_schema = evolving.written(evolving.joined(held, loaded.schema))
        told: dict[str, dict[str, Any]] = {name: cursor.to_json() for name, cursor in cursors.items()}
        self.receipts[_name(load)] = {
            "rows": loaded.rows,
            "checksum": loaded.checksum,
            "committed_at": datetime.datetime.now(datetime.UTC).isoformat(),
            "cursors": told,
            "files": {name: asdict(held) for name, held in loaded.files.items()},
            "note": loaded.note,
        }
        self._forget_old_loads()
        self.cursors.setdefault(str(load.pipeline_id), {}).update(
            {name: data | {"epoch": load.epoch} for name, data in told.items()}
        )
        return replaced

    def _forget_old_loads(self) -> None:
        """The runs whose last chunk is longest ago, but for those that are under way."""
        under_way, kept = set(self.loading.values()), 0
        runs: set[str] = set()
        for name in reversed(self.receipts):
            run = _run(name)
            if kept < RECEIPTS_KEPT or UUID(run).hex in under_way:
                runs.add(run)
                kept += 1
        self.receipts = {name: receipt for name, receipt in self.receipts.items() if _run(name) in runs}

    def _forget(self, names: Collection[str]) -> None:
        """These files are no longer what earlier loads have written."""
        for receipt in self.receipts.values():
            for name in receipt.get("files", {}).keys() & names:
                del receipt["files"][name]

    def rows(self, load: LoadRequest) -> int:
        """Of all its chunks."""
        return sum(receipt["rows"] for receipt in self._chunks(load))

    def written(self, load: LoadRequest) -> dict[str, "Held"] | None:
        """The files of a load, all its chunks, that no later one has replaced; None where it is not known."""
        chunks = self._chunks(load)
        if any("files" not in receipt for receipt in chunks):
            return None
        return {name: Held(**held) for receipt in chunks for name, held in receipt["files"].items()}

    def _chunks(self, load: LoadRequest) -> list[dict[str, Any]]:
        return [receipt for name, receipt in self.receipts.items() if _run(name) == str(load.run_id)]

    def receipt(self, load: LoadRequest) -> Receipt | None:
        entry = self.receipts.get(_name(load))
        if entry is None:
            return None
        return Receipt(
            run_id=load.run_id,
            stream=load.stream,
            chunk=load.chunk,
            rows=entry["rows"],
            inserted=entry["rows"],
            committed_at=datetime.datetime.fromisoformat(entry["committed_at"]),
            checksum=entry["checksum"],
            cursors={name: Cursor.from_json(data) for name, data in entry["cursors"].items()},
            note=entry.get("note", ""),
        )


@dataclass(frozen=True)
class Held:
    """What a file of a load holds."""

    rows: int
    checksum: str


@dataclass(frozen=True)
class Loaded:
    """The files of one load by their names below the stream's folder."""

    files: Mapping[str, Held]
    rows: int
    checksum: str
    schema: pa.Schema
    note: str = ""


def _name(load: LoadRequest) -> str:
    return f"{load.run_id}/{load.chunk}"


def _run(name: str) -> str:
    return name.partition("/")[0]
