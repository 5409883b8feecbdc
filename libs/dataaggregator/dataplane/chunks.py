"""What the committed chunks of a load add up to, kept in the run folder for the attempts to come."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from dataaggregator.contracts.ledger import LedgerEdge, LedgerStage, Receipt
from dataaggregator.contracts.run import RunCounts
from dataaggregator.dataplane.admission import Apart
from dataaggregator.dataplane.book import Producer
from dataaggregator.dataplane.extract import Extract
from dataaggregator.dataplane.ledger import weakest
from dataaggregator.dataplane.load import Load
from dataaggregator.dataplane.tally import Counted

RECORD = "chunks.json"
_COUNTS = tuple(name for name, field in LedgerStage.model_fields.items() if field.annotation in (int, int | None))
_BY_RULE = ("filtered_by", "rejected_by", "warned_by")
_TAKEN = ("read", "written", "rejected", "marked", "bytes", "batches")
_RECEIVED = ("committed", "inserted", "updated", "unchanged", "deleted", "superseded", "chunks")


class Committed(BaseModel):
    """It does not grow with their number, but for where rejected rows lie."""

    model_config = ConfigDict(frozen=True)

    chunks: int = 0
    last: bool = False
    """Whether the source had no more when the last of them was read."""
    lost: bool = False
    """Whether what was counted before one of them is not known."""
    extract: Extract | None = None
    receipt: Receipt | None = None
    taken: dict[str, int] = {}
    apart: Apart = Apart()

    @classmethod
    def of(cls, folder: Path) -> "Committed":
        """What an attempt before this one has written down; it may lack the chunk that it committed last."""
        try:
            return cls.model_validate_json((folder / RECORD).read_bytes())
        except (OSError, ValueError):  # there is none, or the machine stopped before it was on its disk
            return cls()

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f"{RECORD}.new"
        beside.write_text(self.model_dump_json(by_alias=True))
        beside.rename(folder / RECORD)

    def with_chunk(self, load: Load, extract: Extract | None) -> "Committed":
        """And this one, which is committed; without its extract nobody knows what was counted before it."""
        assert load.receipt is not None  # noqa: S101 (it is committed)
        whole = self.extract
        if extract is not None:
            mine = extract.model_copy(update={"quarantine": tuple(_behind(load.name, extract))})
            whole = mine if whole is None else added(whole, mine)
        return Committed(
            chunks=self.chunks + 1,
            last=extract is not None and extract.last,
            lost=self.lost or extract is None,
            extract=whole,
            receipt=load.receipt if self.receipt is None else receipts_added(self.receipt, load.receipt),
            taken={name: self.taken.get(name, 0) + getattr(load.counted, name) for name in _TAKEN},
            apart=self.apart.with_chunk(load.admission.apart(), load.name),
        )

    @property
    def read_and_rejected(self) -> tuple[int, int]:
        counts = RunCounts() if self.extract is None else self.extract.counts
        return counts.rows_read, counts.rows_rejected + self.apart.rejected

    def counted(self) -> Counted:
        return Counted("destination", **self.taken)


def receipts_added(one: Receipt, two: Receipt) -> Receipt:
    """As of one load; its checksum is that of the chunks' checksums, each with those before it."""
    digest = hashlib.sha256(f"{one.checksum} {two.checksum}".encode()).hexdigest()
    return two.model_copy(
        update={
            **{name: getattr(one, name) + getattr(two, name) for name in _RECEIVED},
            "checksum": f"sha256:{digest}",
            "verified": one.verified and two.verified,
        }
    )


def added(one: Extract, two: Extract) -> Extract:
    """Two passes of the same plan, one after the other, as one."""
    return two.model_copy(
        update={
            "came_from": one.came_from,
            "stages": tuple(_stages(*both) for both in zip(one.stages, two.stages, strict=True)),
            "edges": tuple(_edges((*one.edges, *two.edges))),
            "producers": {name: _producers(each, two.producers[name]) for name, each in one.producers.items()},
            "counts": RunCounts(**_sums(one.counts, two.counts, RunCounts.model_fields)),
            "quarantine": (*one.quarantine, *two.quarantine),
        }
    )


def _behind(name: str, extract: Extract) -> Iterable[Any]:
    return (entry.model_copy(update={"destinations": (name,)}) for entry in extract.quarantine)


def _sums(one: BaseModel, two: BaseModel, names: Iterable[str]) -> dict[str, int | None]:
    both = {name: (getattr(one, name), getattr(two, name)) for name in names}
    return {name: None if pair == (None, None) else sum(count or 0 for count in pair) for name, pair in both.items()}


def _stages(one: LedgerStage, two: LedgerStage) -> LedgerStage:
    by_rule: Mapping[str, Counter[str]] = {name: Counter(getattr(one, name)) for name in _BY_RULE}
    for name, counts in by_rule.items():
        counts.update(getattr(two, name))
    accounting = weakest((one.accounting, two.accounting))
    rules = {name: dict(counts) for name, counts in by_rule.items()}
    return two.model_copy(update={**_sums(one, two, _COUNTS), **rules, "accounting": accounting})


def _edges(edges: Iterable[LedgerEdge]) -> Iterable[LedgerEdge]:
    found: dict[tuple[str, str], LedgerEdge] = {}
    for edge in edges:
        known = found.get((edge.from_, edge.to))
        sums = {} if known is None else _sums(known, edge, ("handed_over", "taken"))
        found[edge.from_, edge.to] = edge.model_copy(update=sums)
    return found.values()


def _producers(one: Producer, two: Producer) -> Producer:
    return Producer(two.stage, one.written + two.written)
