"""The catalogue: what a pipeline that replicates a whole schema meets."""

from dataaggregator.catalogue.entry import Entry

REPLICATING: dict[str, Entry] = {
    "replicate-into-itself": Entry(
        "Streams would be read and written at once",
        "Name another schema, or leave the streams out that lie in it: !raw.* in front of its name.",
    ),
    "replicate-new": Entry(
        "There are new streams",
        "Say on_new: load (or ignore), or leave the streams named out with a pattern behind a !.",
    ),
    "replicate-no-cursor": Entry(
        "A stream has no field to go on from",
        "Name one of its fields in cursor_field, leave the stream out, or write with merge and without_cursor: "
        "full_refresh.",
    ),
    "replicate-no-field": Entry(
        "A stream has no field that its override needs",
        "Look at the stream's fields by its connector, and name those; fields of the key are not left out.",
    ),
    "replicate-no-key": Entry(
        "A stream has no primary key", "Give it one, leave the stream out, or say without_key: replace."
    ),
    "replicate-nothing": Entry(
        "No stream fits",
        "Hold the patterns against the connector's streams; a user sees only the tables that it may read.",
    ),
    "replicate-target-twice": Entry(
        "Several streams would go into one",
        "Leave all but one of them out, or keep their schemas apart: {schema} in the schema's name stands for theirs.",
    ),
    "replicate-too-many": Entry("Too many streams", "Part them into several pipelines by their patterns."),
    "replicate-unsupported": Entry(
        "This type of connector has no schema", "Name its streams one by one, as sources or destinations of a pipeline."
    ),
    "replicate-vanished": Entry(
        "Streams are gone", "Say on_vanished: keep, or leave the streams named out with a pattern behind a !."
    ),
    "streams-failed": Entry(
        "Some streams of a whole schema failed",
        "Each one's error stands with its destination in the run; the others are loaded and stay so.",
    ),
}
