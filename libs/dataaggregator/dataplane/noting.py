"""What was counted of a load, noted beside its receipt: whoever finds it committed, on whatever machine, knows it too.

Of a run that rejected something nothing is noted: its rows lie in the run folder, where the counts are, and without the
rows the counts would speak of a quarantine that nobody has.
"""

from pydantic import BaseModel, ConfigDict, ValidationError

from dataaggregator.dataplane.admission import Apart
from dataaggregator.dataplane.extract import Extract

MOST_BYTES = 256 * 1024


class Note(BaseModel):
    model_config = ConfigDict(frozen=True)

    extract: Extract
    apart: Apart


def written(extract: Extract, apart: Apart) -> str:
    """Nothing where rows were rejected, or where there is too much to say."""
    if extract.quarantine or apart.quarantine:
        return ""
    told = extract.model_copy(update={"spooled": {}, "copies": ()})  # files of this machine
    text = Note(extract=told, apart=apart).model_dump_json(by_alias=True)
    return text if len(text) <= MOST_BYTES else ""


def read(text: str) -> Note | None:
    """None where nothing was noted, or by a version that has other words for it."""
    try:
        return Note.model_validate_json(text) if text else None
    except ValidationError:
        return None
