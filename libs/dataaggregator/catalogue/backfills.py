"""The catalogue: why a period of a pipeline is not loaded again, or not like this."""

from dataaggregator.catalogue.entry import Entry

BACKFILLS: dict[str, Entry] = {
    "backfill-impossible": Entry(
        "Intervals of this pipeline would not come right",
        "Do what `errors` say of each part of the definition: a backfill needs a source that is read incrementally, "
        "and destinations that are written with merge and a version_field. Where it cannot have them, run the pipeline "
        "with full_refresh.",
    ),
    "backfill-ended": Entry(
        "The backfill has ended",
        "Nothing needs to be done; POST /api/backfills/{backfill}/retry loads what is missing.",
    ),
    "backfill-not-ended": Entry(
        "The backfill has not ended",
        "Wait for its end, or cancel it: GET /api/backfills/{backfill} shows how far it is.",
    ),
    "backfill-run-not-retried": Entry(
        "A slot is retried with its backfill", "POST /api/backfills/{backfill}/retry loads all slots that are missing."
    ),
    "backfill-succeeded": Entry(
        "Every slot of the backfill is loaded", "To load the period once more, ask for another backfill."
    ),
    "backfill-unknown": Entry(
        "There is no such backfill", "See those of a pipeline with GET /api/pipelines/{pipeline}/backfills."
    ),
    "interval-not-a-time": Entry(
        "A backfill needs a cursor that is a time",
        "Choose a cursor_field with a date or a time; of an API read it as one by the source's schema. Where the "
        "cursor is a number, run the pipeline with full_refresh.",
    ),
    "interval-not-read": Entry(
        "The source cannot be read by an interval", "Run the pipeline with full_refresh: it reads everything again."
    ),
}
