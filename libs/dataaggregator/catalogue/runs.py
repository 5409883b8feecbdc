"""The catalogue: what ends an attempt: sources, destinations, rows, sandbox."""

from dataaggregator.catalogue.entry import Entry

RUNS: dict[str, Entry] = {
    "cast-failed": Entry(
        "A value does not fit its new type",
        "Correct the source, or say on_error: reject (the rows go to the quarantine) or null for that field.",
    ),
    "column-incompatible": Entry(
        "A column does not take these values",
        "Cast the field in a step to what the destination's column holds, or load into another table.",
    ),
    "column-missing": Entry(
        "A column is not there", "Check the columns named against the stream; discovery lists what it has."
    ),
    "commit-unknown": Entry(
        "Nobody can say whether the load was committed",
        "Nothing needs doing: the next attempt asks the destination's ledger first and loads nothing twice.",
    ),
    "connector-busy": Entry(
        "As many runs use the connector as may at once",
        "Nothing needs doing: the run begins when one of them ends. Raise the connector's concurrency if its system "
        "bears more.",
    ),
    "connector-database-missing": Entry("The database is not there", "Correct the connector's database, or create it."),
    "connector-locked": Entry(
        "The other system waits for a lock",
        "Find what holds the lock there, for example in pg_locks; the run is tried again.",
    ),
    "connector-login-failed": Entry(
        "The other system refuses the login",
        "Correct the connector's user and password, and the rights to log in from here.",
    ),
    "connector-permission": Entry(
        "The connector's user may not do this", "Grant the right named in the detail to the connector's user."
    ),
    "connector-refused": Entry(
        "The other system refuses",
        "Read the other system's own words in the detail; they name the column, key or statement.",
    ),
    "connector-tls-failed": Entry(
        "TLS cannot be set up", "Check the server's certificate, its name and sslrootcert, or choose another sslmode."
    ),
    "connector-unreachable": Entry(
        "The other system does not answer",
        "Check host, port and network from where the executor runs; the run is tried again.",
    ),
    "cursor-field-missing": Entry("The cursor field is not there", "Name a column of the stream as cursor_field."),
    "cursor-field-unordered": Entry(
        "The cursor field has no order", "Choose a cursor_field with a number, a time, a text or a uuid."
    ),
    "cursor-null": Entry(
        "Rows without a cursor value", "Give the rows a value in the cursor field, or read with full_refresh."
    ),
    "delete-mark-invalid": Entry(
        "Rows cannot say that they are deleted by this field",
        "Give delete_when a field of the rows that is a boolean, a time or a text; a step can derive one.",
    ),
    "delete-mark-unknown": Entry(
        "Nobody knows whether these rows are deleted",
        "Derive a boolean from the words of that field in a step, and give delete_when its name.",
    ),
    "destination-altered": Entry(
        "The table was altered while it was loaded",
        "Nothing needs doing: nothing was committed and the run is tried again with the columns as they are now.",
    ),
    "destination-locked": Entry(
        "Another load holds the stream", "Wait for the other load, or end it; the run is tried again."
    ),
    "disk-full": Entry(
        "The executor's disk is full",
        "Make room below the executor's DATAAGGREGATOR_HOME, where old rejected rows lie, or give it a larger disk.",
    ),
    "egress-denied": Entry(
        "This address may not be reached",
        "Use another address, or ask an operator to name it in EGRESS_ALLOW; metadata addresses and what EGRESS_DENY "
        "names stay closed.",
    ),
    "expectation-failed": Entry(
        "A step gave another number of rows than expected",
        "Correct the step that the detail names, or say another `expect`.",
    ),
    "expression-failed": Entry(
        "An expression failed on a row",
        "Use TRY_CAST, nullif or a filter in a step before it, so that the expression has an answer for every row; "
        "who may read rows sees the value in the pipeline's plan.",
    ),
    "file-expands": Entry(
        "A compressed file becomes too large",
        "Look whether the file is what it should be; if it is, raise the connector's expansion, or split the workbook.",
    ),
    "file-malformed": Entry(
        "The file cannot be read", "Check the file's format and encoding against the connector's configuration."
    ),
    "file-too-large": Entry(
        "A file on a web server is too large",
        "Look whether the file is what it should be; if it is, raise the connector's fetched_bytes, or have it split.",
    ),
    "files-denied": Entry(
        "This folder may not be used", "Use a folder below FILES_ALLOWED_ROOTS, or ask an operator to add it."
    ),
    "files-failed": Entry(
        "The file system refuses", "Check that the folder is there, has room and may be written by the executor's user."
    ),
    "files-format-unknown": Entry(
        "The format is not known",
        "Set format to csv, json, ndjson, parquet, arrow or excel (.xlsx); csv, ndjson, parquet and arrow are written.",
    ),
    "http-batch-too-large": Entry(
        "One record is larger than the API takes",
        "Leave fields out of it with select or drop, or ask whoever runs the API to take more; batches of several are "
        "halved until they fit.",
    ),
    "http-malformed": Entry(
        "The API's answer is not JSON", "Correct the stream's path and params; the page is named in the detail."
    ),
    "http-page-too-large": Entry(
        "The API's answer is too large", "Ask for fewer records a page with the pagination's size or limit."
    ),
    "http-pagination": Entry(
        "The API gives the same page again",
        "Correct the stream's pagination: its type and the names of its parameters.",
    ),
    "http-records-missing": Entry(
        "No records in the answer", "Correct the stream's records path against what the API answers."
    ),
    "http-schema-changed": Entry(
        "The API changed its fields between pages",
        "Give the fields' types with schema, so that the whole read has one schema.",
    ),
    "http-status": Entry(
        "The API answered with an error", "Read the API's own words in the detail; correct path, params or login."
    ),
    "join-fan-out": Entry(
        "A join met more rows than expected",
        "Make the key unique in a step before, or say expect: any if several matches are right.",
    ),
    "lateness-not-a-time": Entry(
        "A lateness needs a cursor that is a time",
        "Choose a cursor_field with a date or a time, read the field as one by `schema`, or leave lateness out.",
    ),
    "lease-lost": Entry("A newer attempt has taken over", "Nothing needs doing: the newer attempt loads the stream."),
    "load-rolled-back": Entry("The connection was lost at the commit", "Nothing was loaded; the run is tried again."),
    "kept-copy-broken": Entry(
        "What was kept of a source cannot be read",
        "Nothing need be done: the next attempt reads the source from the beginning. Have the disk looked at.",
    ),
    "merge-key-missing": Entry(
        "A merge needs a key", "Give the destination's key and version_field as columns the rows have."
    ),
    "merge-key-not-unique": Entry(
        "The merge key has no unique index", "Create the unique index named in the detail on the destination's table."
    ),
    "merge-key-null": Entry(
        "Rows without a merge key", "Filter or fill these rows in a step: a key with NULL equals nothing."
    ),
    "no-executor-with-labels": Entry(
        "No executor has the labels that the run asks for",
        "Start an executor with these EXECUTOR_LABELS, or take them out of the pipeline's runs_on and ask for the run "
        "again.",
    ),
    "partition-invalid": Entry(
        "These rows cannot be partitioned like this",
        "Name columns of text, whole numbers, decimals, booleans or dates in partition_by, with a value in each row.",
    ),
    "pipeline-busy": Entry(
        "The run waits for its turn",
        "Nothing needs doing: it begins when a run before it ends. Raise the pipeline's concurrency if its runs may be "
        "side by side.",
    ),
    "probe-timeout": Entry(
        "A trial took too long", "Check that the source answers quickly, ask for fewer rows, then try again."
    ),
    "python-failed": Entry(
        "The Python of a step failed",
        "Correct the line that the detail names; try it with the same rows by the transformation's test.",
    ),
    "python-output-invalid": Entry(
        "The Python of a step gave something else than its rows",
        "Return a pyarrow.Table with the step's fields, those it gives for a table without rows or says with `schema`.",
    ),
    "rejected-over-threshold": Entry(
        "Too many rows were rejected",
        "Look at the rejected rows of the run: correct the source or the rule, or raise on_rejected.threshold.",
    ),
    "row-malformed": Entry(
        "A row is not of its format", "Mend the line at the position named; the other rows were read."
    ),
    "row-ragged": Entry(
        "A row has too many or too few fields",
        "Mend the line at the position named, or the csv options; the other rows were read.",
    ),
    "row-unfit": Entry(
        "A value does not fit its field",
        "Mend the value at the position named, or give the field another type with schema.",
    ),
    "run-handed-back": Entry(
        "An executor stopped, or had no slot free for the run",
        "Nothing needs to be done: the run goes on with the next free executor, and the attempt does not count.",
    ),
    "run-killed": Entry(
        "The run process was ended by force",
        "Nothing needs to be done: the destinations are asked what they hold before the run's end is told.",
    ),
    "run-does-not-fit": Entry(
        "The run declares more memory than the executor has for all runs",
        "Raise EXECUTOR_MEMORY_BYTES, or lower RUN_MEMORY_BYTES and SANDBOX_MEMORY_BYTES (a step in Python counts a "
        "second sandbox).",
    ),
    "run-memory-exceeded": Entry(
        "The run needed more memory than it may take", "Raise RUN_MEMORY_BYTES, or read fewer and narrower columns."
    ),
    "run-process-lost": Entry(
        "The run process ended in its work",
        "Nothing was half committed; the next attempt goes on. If it comes again, look at the run's log.",
    ),
    "run-stalled": Entry(
        "Nothing moved in the run",
        "Find out by the log what the source, a step or the destination waits for, or raise EXECUTION_TIMEOUT.",
    ),
    "run-timeout": Entry("The attempt took too long", "Raise the pipeline's timeout, or make it do less at once."),
    "run-waited-too-long": Entry(
        "The run waited too long for the one before it",
        "Let the pipeline fire less often, look why its runs take long, or raise QUEUE_LIMIT_SECONDS.",
    ),
    "sandbox-disk": Entry(
        "The steps filled the spill folder",
        "Filter or drop fields before set-wise steps, or give the executor's disk more room.",
    ),
    "sandbox-killed": Entry(
        "The sandbox ended", "Run it again; if it stays, look at the run's logs: the detail says how the process ended."
    ),
    "sandbox-memory": Entry(
        "The steps needed too much memory",
        "Filter or drop fields earlier, make values smaller, or raise SANDBOX_MEMORY_BYTES.",
    ),
    "sandbox-output": Entry(
        "A step gave too many rows", "Let the Python of the step return fewer rows, or smaller ones."
    ),
    "sandbox-timeout": Entry(
        "The steps computed too long without an answer",
        "Simplify the expression or the SQL that the detail names, or split it into steps.",
    ),
    "sandbox-unavailable": Entry(
        "The kernel cannot lock a sandbox",
        "Use a kernel with Landlock and seccomp, or set SANDBOX=basic where every author of pipelines is trusted.",
    ),
    "schema-change-waits": Entry(
        "The rows differ from their destination, and the pipeline waits for an approval",
        "Look at schema_changes of the pipeline, then approve them, or change the source or the definition.",
    ),
    "schema-frozen": Entry(
        "The destination's schema is frozen",
        "Bring rows and columns together yourself, in a step or at the destination, or use another schema_policy.",
    ),
    "schema-policy-unknown": Entry(
        "The destination cannot keep to this schema policy",
        "Use schema_policy evolve for it, and validate or select in a step what it is to get.",
    ),
    "schema-unknown": Entry(
        "Nothing to learn the fields from", "Give the fields' types with schema on the pipeline's source."
    ),
    "state-append": Entry(
        "Rows read again would be appended twice",
        "Set the state to where the destination is, or further; or run once with full_refresh, which replaces what is "
        "there; or write with merge.",
    ),
    "store-denied": Entry(
        "The store does not let this connector in",
        "Check the connector's credentials and what they may do in the bucket: list, read, and to write also write.",
    ),
    "store-unsafe": Entry(
        "The store cannot keep loads apart",
        "Write to a store that honours If-None-Match and If-Match when an object is written; reading works as it is.",
    ),
    "stream-invalid": Entry(
        "Not the name of a stream",
        "Write the stream as the connector type's documentation says, for example schema.table.",
    ),
    "stream-missing": Entry(
        "The stream is not there", "Check the name against discovery, and the user's right to see it."
    ),
    "stream-not-a-table": Entry("Not a table", "Load into a table; views and foreign tables cannot be loaded."),
    "type-not-convertible": Entry(
        "The field cannot be read as this type", "Read it as its own type or as text and cast it in a step."
    ),
    "swap-impossible": Entry(
        "The table cannot be swapped for another one",
        "Write with replace_strategy: delete_insert, or take away first what the detail names.",
    ),
    "type-unsupported": Entry(
        "A type cannot be kept exactly", "Read the field in another type, or drop it before the step named."
    ),
    "unbalanced": Entry(
        "The ledger does not add up",
        "Nothing was committed. Look at the ledger's violations and the logs, and report the run: a row was lost.",
    ),
    "validation-failed": Entry(
        "A rule with on_fail: fail was broken",
        "Correct the rows at the source, or say on_fail: reject to set them aside.",
    ),
    "value-does-not-fit": Entry(
        "A value does not fit its column", "Filter or cast the value in a step, or widen the destination's column."
    ),
    "value-not-representable": Entry(
        "A value cannot be read without change",
        "Read the column as text with schema, or leave these rows out with a query.",
    ),
    "workspace-busy": Entry(
        "As many runs of the workspace are at work as may be at once",
        "Nothing needs doing: the run begins when one of them ends. An admin sees the limits with GET /api/run-limits.",
    ),
}
