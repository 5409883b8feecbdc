"""The catalogue: why rejected rows do not go through a pipeline once more."""

from dataaggregator.catalogue.entry import Entry

REPLAYS: dict[str, Entry] = {
    "replay-done": Entry(
        "These rows have been replayed", "Nothing needs to be done: the run named in the detail has brought them."
    ),
    "replay-not-retried": Entry(
        "A replay is not retried", "POST /api/runs/{run}/rejected/replay to the run that rejected the rows."
    ),
    "replay-nothing": Entry(
        "There is nothing to replay", "See what was rejected with GET /api/runs/{run}/rejected/summary."
    ),
    "replay-nowhere": Entry(
        "No destination has the rows beside these",
        "Run the pipeline again: it reads the rows of a run that has not committed once more, these among them.",
    ),
    "replay-overlaps": Entry(
        "A replay before has written some of the rows",
        "Replay with the stage and rule of the run named in the detail; then replay the rest.",
    ),
    "replay-overwrites": Entry(
        "Newer rows might be overwritten",
        "Give the destination a version_field, or say overwrite: true if the replayed rows are to win.",
    ),
    "replay-raw-rows": Entry(
        "Rows without types cannot be replayed",
        "Correct them in the source and run the pipeline again; replay those of the steps stage by stage.",
    ),
    "replay-replace": Entry(
        "A replay into a table that is replaced",
        "Correct the rule and run the pipeline again: it writes all rows, these among them.",
    ),
    "replay-set-step": Entry(
        "A step behind needs all rows of a run",
        "Correct the rule and run the pipeline again, with full_refresh where it reads incrementally.",
    ),
    "replay-several-entries": Entry(
        "The rows come in again at several places", "Replay them one stage or rule after the other."
    ),
    "replay-step-changed": Entry(
        "The pipeline has changed before the step",
        "Replay with the version that the run had, or run the pipeline again.",
    ),
    "replay-under-way": Entry(
        "A replay of these rows has not ended", "Wait for its end: GET /api/runs?parent_run_id={run}&trigger=replay."
    ),
}
