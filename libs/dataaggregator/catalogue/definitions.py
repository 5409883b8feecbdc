"""The catalogue: what can be wrong with definitions, triggers and the runs one asks for."""

from dataaggregator.catalogue.entry import Entry

DEFINITIONS: dict[str, Entry] = {
    "apply-half-done": Entry(
        "An apply broke off between the services",
        "The connectors named are saved, the rest is not. Cure what is named, if anything, and apply the same again: "
        "what is there already is left as it is.",
    ),
    "apply-overtaken": Entry(
        "Somebody else was faster", "Nothing was applied. Look at the difference again with diff, then apply again."
    ),
    "apply-under-way": Entry(
        "Another apply is under way",
        "Wait until it has ended and apply again; one whose process has died holds the next up for 90 seconds at most.",
    ),
    "chunk-rows-impossible": Entry(
        "The load cannot be done in chunks",
        "Leave chunk_rows out, or cure each reason named: chunks need one incremental source with an order and one "
        "destination that keeps a ledger.",
    ),
    "connector-config-invalid": Entry(
        "The connector's configuration is wrong",
        "Correct the fields named, or the value a reference leads to, and test the connector.",
    ),
    "connector-in-use": Entry(
        "Pipelines use this connector", "Change or delete the pipelines named, then delete the connector."
    ),
    "connector-not-a-destination": Entry(
        "Nothing can be written there", "Choose a connector of a type whose roles include destination."
    ),
    "connector-not-a-source": Entry(
        "Nothing can be read there", "Choose a connector of a type whose roles include source."
    ),
    "connector-type-fixed": Entry(
        "The type of a connector stays", "Make a new connector of the other type and let the pipelines use it."
    ),
    "connector-type-unknown": Entry(
        "No such connector type", "Use one of the types that GET /api/connector-types lists."
    ),
    "connector-unknown": Entry(
        "No such connector", "Check the name or id with GET /api/connectors; a connector lives in one workspace."
    ),
    "definition-invalid": Entry(
        "The definition is wrong", "Correct each field named under errors; each message says what would be right."
    ),
    "definitions-invalid": Entry(
        "Some of the definitions are wrong",
        "Nothing was changed. Correct each field named under errors; definitions[2] is the third that was sent.",
    ),
    "export-too-large": Entry(
        "More than one export gives",
        "Ask for parts: GET /api/export?kind=pipeline&name=...&name=..., or `dataaggregator export --kind pipeline "
        "--name ...`. The secrets' variables are called alike in every part.",
    ),
    "workspace-full": Entry(
        "The workspace has no room for more definitions",
        "Delete pipelines, transformations or connectors that are not needed any more: every version that was saved of "
        "one counts, and goes with it. Else an operator raises WORKSPACE_DEFINITIONS_BYTES.",
    ),
    "definition-unreadable": Entry(
        "A stored definition cannot be read",
        "Another version of the platform stored it: update all services to one version, or save the definition anew; "
        "then resume the pipeline and retry its runs.",
    ),
    "destination-count": Entry(
        "The destination took another number of rows", "The load was undone and is tried again; report it if it stays."
    ),
    "discovery-running": Entry(
        "The discovery is still at work", "Ask for the streams again in a while, without refresh."
    ),
    "files-not-listed": Entry(
        "There is no listing of files",
        "Let the trigger wait for files of a connector of type files: a folder or bucket.",
    ),
    "files-too-many": Entry(
        "Too many files to wait for", "Narrow the trigger's stream, or move files away once they have been read."
    ),
    "incremental-replace": Entry(
        "New rows would replace the whole",
        "Write with merge or append, give the source keep: full, or read it with full_refresh.",
    ),
    "incremental-set-step": Entry(
        "A set-wise step over an incremental source",
        "Give that source keep: full and a primary_key, or read it with full_refresh.",
    ),
    "keep-append": Entry(
        "All rows would be appended with every run",
        "Write with replace, or with merge and a key: a source with keep: full gives all its rows in every run.",
    ),
    "keep-delete-merge": Entry(
        "A merge would never hear of the deletes",
        "Write with replace: what a source with keep: full and delete_when deletes is simply not among its rows.",
    ),
    "lateness-append": Entry(
        "Rows that are read again would be appended again",
        "Write with merge and a key, or leave lateness out and read late rows with a full refresh.",
    ),
    "ledger-not-there-yet": Entry(
        "No ledger yet", "Wait until an attempt of the run has ended; the ledger is stored with its outcome."
    ),
    "parameters-invalid": Entry("The parameters do not fit", "Correct each parameter named under errors."),
    "pipeline-blocked": Entry(
        "The pipeline is blocked", "Cure the reason named, save or resume the pipeline, then run it."
    ),
    "pipeline-deleted": Entry("The pipeline was deleted", "The run was waiting for its turn; nothing is left to run."),
    "pipeline-paused": Entry(
        "The pipeline is paused", "Resume it with POST /api/pipelines/{pipeline}/resume, then run it."
    ),
    "pipeline-unknown": Entry(
        "No such pipeline", "Check the name or id with GET /api/pipelines; a pipeline lives in one workspace."
    ),
    "probe-incomplete": Entry(
        "Something to try is missing", "Send the connector, or the transformation, that is to be tried."
    ),
    "query-invalid": Entry("Wrong query parameters", "Correct every parameter named under errors."),
    "reference-unresolved": Entry(
        "A reference in the configuration has no value",
        "Set the variable or write the file for the connectors service; never a setting of the platform itself.",
    ),
    "rejected-rows-differ": Entry(
        "The rejected rows have different fields",
        "Choose those of one stage and rule, which GET /api/runs/{run}/rejected/summary names, or take ndjson or csv.",
    ),
    "rejected-rows-elsewhere": Entry(
        "The rejected rows lie with another executor",
        "Wait until that executor is back: it puts them into the run store by itself. If its disk is gone for good, "
        "run the pipeline again to see them anew.",
    ),
    "rejected-rows-gone": Entry(
        "The rejected rows are gone",
        "They are kept for RUN_RETENTION_DAYS in the run folder or the run store; run the pipeline again to see them "
        "anew.",
    ),
    "run-ended": Entry("The run has ended", "An ended run never changes; POST /api/runs/{run}/retry makes a new one."),
    "run-not-ended": Entry("The run has not ended yet", "Wait for its end or cancel it, then retry it."),
    "run-not-found": Entry(
        "No such run", "Check the id and the workspace; a run that was only just asked for may need a moment."
    ),
    "run-not-started": Entry(
        "The run was not begun in time", "Start more executors or raise RUN_SLOTS, then retry the run."
    ),
    "run-overlaps": Entry(
        "The run before has not ended", "Wait for it or cancel it, or let the pipeline say overlap: queue."
    ),
    "run-state": Entry(
        "Not possible in the run's state", "Look at the run's status; docs/run-lifecycle.md shows every step there is."
    ),
    "run-superseded": Entry(
        "A newer run took its place", "The newer one brings what this one would have; nothing is to be done."
    ),
    "run-unknown": Entry("No such run", "Check the id with GET /api/runs; a run lives in one workspace."),
    "sample-invalid": Entry(
        "The sample does not fit", "Give rows for each input of the transformation, all rows of a field of one type."
    ),
    "slot-decided": Entry("The slot was decided already", "Nothing is to be done: another scheduler was first."),
    "source-query-invalid": Entry("The query cannot be used", "Write one SELECT whose columns have different names."),
    "state-invalid": Entry(
        "The state cannot be set like this",
        "Take streams, destinations and types from GET /api/pipelines/{pipeline}/state and correct each part named.",
    ),
    "schema-nothing-waits": Entry(
        "No such change of schema waits at the pipeline",
        "Look at its schema_changes: they are all that can be approved.",
    ),
    "transformation-in-use": Entry("Pipelines use this transformation", "Change or delete the pipelines named first."),
    "transformation-unknown": Entry(
        "No such transformation",
        "Check the name or id with GET /api/transformations; a transformation lives in one workspace.",
    ),
    "pipeline-in-use": Entry(
        "Other pipelines come after this one", "Take it out of the `after` of the pipelines named first."
    ),
    "trigger-invalid": Entry(
        "The trigger is wrong",
        "Write five cron fields and a time zone such as Europe/Zurich, or a length of time such as 10m.",
    ),
    "type-unknown": Entry("No such type", "Use one of the types the detail lists."),
    "write-mode-unknown": Entry(
        "The destination cannot write this way",
        "Use one of the write modes GET /api/connector-types lists for the type.",
    ),
}
