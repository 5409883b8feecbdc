"""What was counted of a load, noted beside its receipt: whoever finds it committed, on whatever machine, knows it too.

Of a run that rejected something only what the load itself took is noted: the rows lie in the run folder, where the
other counts are, and without the rows those would speak of a quarantine that nobody has.
"""

from pydantic import BaseModel, ConfigDict, ValidationError

from dataaggregator.dataplane.admission import Apart
from dataaggregator.dataplane.extract import Extract
from dataaggregator.dataplane.tally import Counted

MOST_BYTES = 256 * 1024


class Taken(BaseModel):
    """What the load itself counted, beside what a receipt says."""

    model_config = ConfigDict(frozen=True)

    marked: int | None = None
    bytes: int = 0
    batches: int = 0
    duration_ms: int = 0

    @classmethod
    def of(cls, counted: Counted) -> "Taken":
        return cls(**{name: getattr(counted, name) for name in cls.model_fields})

    def put_into(self, counted: Counted) -> None:
        """Of an attempt that found the load committed. A note of an older version does not say what was marked."""
        counted.marked = counted.marked if self.marked is None else self.marked
        counted.bytes, counted.batches = self.bytes, self.batches
        counted.ended = counted.started + self.duration_ms / 1000


class Note(BaseModel):
    model_config = ConfigDict(frozen=True)

    extract: Extract | None = None
    apart: Apart | None = None
    taken: Taken = Taken()


def written(extract: Extract, apart: Apart, counted: Counted) -> str:
    """Only what was taken where rows were rejected, or where there is too much to say."""
    least = Note(taken=Taken.of(counted))
    told = extract.model_copy(update={"spooled": {}, "copies": ()})  # files of this machine
    whole = least.model_copy(update={"extract": told, "apart": apart}).model_dump_json(by_alias=True)
    known = not (extract.quarantine or apart.quarantine) and len(whole) <= MOST_BYTES
    return whole if known else least.model_dump_json()


def read(text: str) -> Note | None:
    """None where nothing was noted, or by a version that has other words for it."""
    try:
        return Note.model_validate_json(text) if text else None
    except ValidationError:
        return None
