"""Every error code of the platform: a title, and the cure that the troubleshooting guide prints."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """``title``: a few words that never change with the occasion. ``cure``: what a person does about it."""

    title: str
    cure: str


def problem_type(code: str) -> str:
    """The address of a code's catalogue entry, the ``type`` of a problem."""
    return f"/api/docs/errors#{code}"


def help_section(code: str) -> str:
    """The section of the troubleshooting guide that cures a code, the ``help`` of a problem."""
    return f"docs/troubleshooting/errors.md#{code}"


CATALOGUE: dict[str, Entry] = {
    "already-exists": Entry("The name is taken", "Choose another name, or change the one that is there."),
    "already-member": Entry(
        "Already a member",
        "Nothing to do; PUT …/members/{user} changes the role.",
    ),
    "already-running": Entry(
        "A platform runs on this home already", "Use the one that runs, stop it, or set another DATAAGGREGATOR_HOME."
    ),
    "body-incomplete": Entry("The body did not arrive", "Send the whole body, in the encoding its headers name."),
    "body-invalid": Entry("Wrong fields in the body", "Correct every field named under errors and send it again."),
    "body-too-large": Entry("The body is too large", "Send less at once; the limit is named in the detail."),
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
    "config-invalid": Entry(
        "Wrong fields in the configuration",
        "Correct every field named under errors; GET /api/connector-types shows what each type takes.",
    ),
    "conflict": Entry("Not possible in this state", "Look at the present state of the resource, then decide again."),
    "connector-config-invalid": Entry(
        "The connector's configuration is wrong",
        "Correct the fields named, or the value a reference leads to, and test the connector.",
    ),
    "connector-database-missing": Entry("The database is not there", "Correct the connector's database, or create it."),
    "connector-in-use": Entry(
        "Pipelines use this connector", "Change or delete the pipelines named, then delete the connector."
    ),
    "connector-locked": Entry(
        "The other system waits for a lock",
        "Find what holds the lock there, for example in pg_locks; the run is tried again.",
    ),
    "connector-login-failed": Entry(
        "The other system refuses the login",
        "Correct the connector's user and password, and the rights to log in from here.",
    ),
    "connector-not-a-destination": Entry(
        "Nothing can be written there",
        "Choose a connector of a type whose roles include destination.",
    ),
    "connector-not-a-source": Entry(
        "Nothing can be read there",
        "Choose a connector of a type whose roles include source.",
    ),
    "connector-permission": Entry(
        "The connector's user may not do this", "Grant the right named in the detail to the connector's user."
    ),
    "connector-refused": Entry(
        "The other system refuses",
        "Read the other system's own words in the detail; they name the value, column or statement.",
    ),
    "connector-tls-failed": Entry(
        "TLS cannot be set up", "Check the server's certificate, its name and sslrootcert, or choose another sslmode."
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
    "connector-unreachable": Entry(
        "The other system does not answer",
        "Check host, port and network from where the executor runs; the run is tried again.",
    ),
    "cursor-field-missing": Entry("The cursor field is not there", "Name a column of the stream as cursor_field."),
    "cursor-field-unordered": Entry(
        "The cursor field has no order", "Choose a cursor_field with a number, a time, a text or a uuid."
    ),
    "cursor-invalid": Entry(
        "The cursor is not one of ours", "Begin again without cursor and go on with next_cursor as it is given."
    ),
    "cursor-null": Entry(
        "Rows without a cursor value", "Give the rows a value in the cursor field, or read with full_refresh."
    ),
    "database-busy": Entry(
        "The database could not do it now",
        "Repeat the call; if it stays, look at /metrics (dataaggregator_db_pool_*) and for long locks in PostgreSQL.",
    ),
    "database-not-migrated": Entry(
        "The database was never migrated", "Run `dataaggregator db upgrade`, then start the service again."
    ),
    "database-role-missing": Entry(
        "A database role is missing",
        "As a superuser CREATE the role named and GRANT it to the user of DATABASE_URL, or give that user CREATEROLE.",
    ),
    "database-unavailable": Entry(
        "The database does not answer",
        "Check that PostgreSQL runs and that DATABASE_URL reaches it; the call can be repeated as it is.",
    ),
    "definition-invalid": Entry(
        "The definition is wrong", "Correct each field named under errors; each message says what would be right."
    ),
    "definition-unreadable": Entry(
        "The run's definition cannot be read",
        "Another version of the platform asked for the run: update all services to one version, then retry the run.",
    ),
    "destination-count": Entry(
        "The destination took another number of rows", "The load was undone and is tried again; report it if it stays."
    ),
    "destination-locked": Entry(
        "Another load holds the stream", "Wait for the other load, or end it; the run is tried again."
    ),
    "discovery-running": Entry(
        "The discovery is still at work", "Ask for the streams again in a while, without refresh."
    ),
    "egress-denied": Entry(
        "This address may not be reached",
        "Use another address, or ask an operator to name it in EGRESS_ALLOW; metadata addresses stay closed.",
    ),
    "email-taken": Entry(
        "The e-mail is taken",
        "Use another e-mail, or let the existing user into the workspace as a member.",
    ),
    "encoding-invalid": Entry("Not UTF-8 text", "Send addresses, headers and bodies as UTF-8."),
    "event-poisonous": Entry(
        "The process ended while an event was delivered",
        "Look at the logs before each end (out of memory, a crash), cure that, then replay the event from `parked`.",
    ),
    "event-unreadable": Entry(
        "An event is not what its type says",
        "The service that said it and the one that read it differ in version: bring both to the same, then replay.",
    ),
    "executor-lost": Entry(
        "An executor died at its work",
        "Another attempt asks the destination what was committed and goes on; if it returns, see the executor's log.",
    ),
    "expression-failed": Entry(
        "An expression failed on a row",
        "Use TRY_CAST, nullif or a filter in a step before it, so that the expression has an answer for every row.",
    ),
    "file-malformed": Entry(
        "The file cannot be read", "Check the file's format and encoding against the connector's configuration."
    ),
    "files-denied": Entry(
        "This folder may not be used", "Use a folder below FILES_ALLOWED_ROOTS, or ask an operator to add it."
    ),
    "files-failed": Entry(
        "The file system refuses", "Check that the folder is there, has room and may be written by the executor's user."
    ),
    "files-format-unknown": Entry("The format is not known", "Set format to csv, json, ndjson or parquet."),
    "folder-not-writable": Entry(
        "A folder cannot be written",
        "Make the folder writable for the user that starts the platform, or set DATAAGGREGATOR_HOME to one that is.",
    ),
    "header-invalid": Entry("A header is wrong", "Correct the header named under errors."),
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
    "idempotency-in-flight": Entry(
        "The first request is still at work",
        "Wait for it; the same request with the same key then gets its answer.",
    ),
    "idempotency-key-invalid": Entry(
        "The Idempotency-Key is wrong",
        "Send 1 to 255 printable ASCII characters, a new random one for each thing to be done.",
    ),
    "idempotency-key-reused": Entry(
        "The key belongs to another request",
        "Take a new Idempotency-Key for a request that is not the same.",
    ),
    "idempotency-outcome-unknown": Entry(
        "Whether it was done is not known",
        "Look whether the thing is there or the run was started; if not, send it again with a new Idempotency-Key.",
    ),
    "identifier-invalid": Entry(
        "The other system cannot hold this name", "Choose a shorter name, or rename the column in a step."
    ),
    "incremental-set-step": Entry(
        "A set-wise step over an incremental source",
        "Read that source with full_refresh, or do without the join, aggregate or sql step behind it.",
    ),
    "internal-error": Entry(
        "An error of ours",
        "Repeat the call once; if it stays, report it with the trace_id, which finds it in the logs.",
    ),
    "invalid-credentials": Entry(
        "Wrong e-mail or password",
        "Check both; an administrator can set a new password with PATCH /api/users/{user}.",
    ),
    "join-fan-out": Entry(
        "A join met more rows than expected",
        "Make the key unique in a step before, or say expect: any if several matches are right.",
    ),
    "json-malformed": Entry("The body is not JSON", "Send one JSON document; the detail names the place."),
    "keys-not-ready": Entry(
        "Tokens cannot be signed yet",
        "Wait a moment; if it stays, check that the auth service reaches its database.",
    ),
    "last-admin": Entry(
        "The last administrator",
        "Make another active user admin of that workspace first.",
    ),
    "lease-lost": Entry("A newer attempt has taken over", "Nothing needs doing: the newer attempt loads the stream."),
    "ledger-not-there-yet": Entry(
        "No ledger yet", "Wait until an attempt of the run has ended; the ledger is stored with its outcome."
    ),
    "length-required": Entry("The body was cut off", "Send the whole body that Content-Length announces."),
    "load-rolled-back": Entry("The connection was lost at the commit", "Nothing was loaded; the run is tried again."),
    "login-busy": Entry(
        "Too many logins at once",
        "Try again in a moment.",
    ),
    "media-type-unsupported": Entry("The body is of another kind", "Send Content-Type: application/json."),
    "member-not-found": Entry(
        "Not a member",
        "List the workspace's members to see who is.",
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
    "method-not-allowed": Entry("Not with this method", "Use one of the methods that the Allow header names."),
    "no-workspace": Entry(
        "No workspace", "Name one in the X-Workspace header, or ask an administrator to make you a member of one."
    ),
    "not-found": Entry("Not there", "Check the id or name and the workspace; what is not yours looks the same."),
    "parameters-invalid": Entry("The parameters do not fit", "Correct each parameter named under errors."),
    "path-invalid": Entry("The address is wrong", "Correct the part of the path named under errors."),
    "permission-denied": Entry(
        "You may not do this", "Ask an administrator of the workspace for a role with the permission named."
    ),
    "pipeline-blocked": Entry(
        "The pipeline is blocked", "Cure the reason named, save or resume the pipeline, then run it."
    ),
    "pipeline-deleted": Entry("The pipeline was deleted", "The run was waiting for its turn; nothing is left to run."),
    "pipeline-never-ran": Entry(
        "No run of it yet", "Check the name, or start a run: the state begins with the first one."
    ),
    "pipeline-paused": Entry(
        "The pipeline is paused", "Resume it with POST /api/pipelines/{pipeline}/resume, then run it."
    ),
    "pipeline-unknown": Entry(
        "No such pipeline", "Check the name or id with GET /api/pipelines; a pipeline lives in one workspace."
    ),
    "port-in-use": Entry("The port is taken", "End the program that has it, or choose another GATEWAY_PORT."),
    "postgres-binaries-missing": Entry(
        "PostgreSQL's programs are missing",
        "Use Python 3.11 to 3.13 on Linux, for which the wheel exists, or name a server of your own in DATABASE_URL.",
    ),
    "postgres-start-failed": Entry(
        "The private PostgreSQL did not start",
        "Read postgres.log in the folder named; free the disk or the memory it asks for, then start again.",
    ),
    "probe-incomplete": Entry(
        "Something to try is missing",
        "Send the connector, or the transformation, that is to be tried.",
    ),
    "probe-timeout": Entry(
        "A trial took too long", "Check that the source answers quickly, ask for fewer rows, then try again."
    ),
    "query-invalid": Entry("Wrong query parameters", "Correct every parameter named under errors."),
    "rate-limited": Entry("Too many requests", "Wait for the seconds in Retry-After; RateLimit-* tell what is left."),
    "reference-unresolved": Entry(
        "A reference in the configuration has no value",
        "Set the variable or write the file for the connectors service; never a setting of the platform itself.",
    ),
    "refresh-invalid": Entry(
        "The refresh token is not valid",
        "Log in again with e-mail and password.",
    ),
    "refresh-reused": Entry(
        "A refresh token was used twice",
        "Log in again; if nobody of yours used the token twice, somebody else had it: change the password.",
    ),
    "rejected-over-threshold": Entry(
        "Too many rows were rejected",
        "Look at the rejected rows of the run: correct the source or the rule, or raise on_rejected.threshold.",
    ),
    "rejected-rows-gone": Entry(
        "The rejected rows are gone",
        "They are kept for RUN_RETENTION_DAYS in the run folder; run the pipeline again to see them anew.",
    ),
    "request-malformed": Entry("Not an HTTP request", "Send a well-formed HTTP/1.1 request."),
    "route-unknown": Entry("No such address", "See GET /api/docs for every address there is."),
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
    "run-ended": Entry("The run has ended", "An ended run never changes; POST /api/runs/{run}/retry makes a new one."),
    "run-handed-back": Entry(
        "An executor stopped",
        "Nothing needs to be done: the run goes on with another executor, and the attempt does not count.",
    ),
    "run-memory-exceeded": Entry(
        "The run needed more memory than it may take",
        "Raise RUN_MEMORY_BYTES, or read fewer and narrower columns.",
    ),
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
    "run-process-lost": Entry(
        "The run process ended in its work",
        "Nothing was half committed; the next attempt goes on. If it comes again, look at the run's log.",
    ),
    "run-stalled": Entry(
        "Nothing moved in the run",
        "Find out by the log what the source, a step or the destination waits for, or raise EXECUTION_TIMEOUT.",
    ),
    "run-state": Entry(
        "Not possible in the run's state", "Look at the run's status; docs/run-lifecycle.md shows every step there is."
    ),
    "run-timeout": Entry("The attempt took too long", "Raise the pipeline's timeout, or make it do less at once."),
    "run-unknown": Entry("No such run", "Check the id with GET /api/runs; a run lives in one workspace."),
    "run-waited-too-long": Entry(
        "The run waited too long for the one before it",
        "Let the pipeline fire less often, look why its runs take long, or raise QUEUE_LIMIT_SECONDS.",
    ),
    "sample-invalid": Entry(
        "The sample does not fit", "Give rows for each input of the transformation, all rows of a field of one type."
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
    "sandbox-timeout": Entry(
        "The steps computed too long without an answer",
        "Simplify the expression or the SQL that the detail names, or split it into steps.",
    ),
    "sandbox-unavailable": Entry(
        "The kernel cannot lock a sandbox",
        "Use a kernel with Landlock and seccomp, or set SANDBOX=basic where every author of pipelines is trusted.",
    ),
    "schema-frozen": Entry(
        "The destination's schema is frozen",
        "Add the columns there yourself, drop them in a step, or use schema_policy evolve.",
    ),
    "schema-unknown": Entry(
        "Nothing to learn the fields from", "Give the fields' types with schema on the pipeline's source."
    ),
    "sealed-data-unreadable": Entry(
        "A stored secret cannot be opened",
        "Start with the SECRET_KEY it was sealed with, or name that one in SECRET_KEY_PREVIOUS; else enter it anew.",
    ),
    "sequence-gap": Entry(
        "An event waits for an earlier one",
        "Find the earlier event of the same subject in `dataaggregator parked list` and replay it; the others follow.",
    ),
    "service-refused": Entry(
        "A service does not know our token", "Give all services the same SECRET_KEY and compare their clocks."
    ),
    "service-unavailable": Entry(
        "A service does not answer", "See GET /api/status for which and why; the call can be repeated as it is."
    ),
    "settings-invalid": Entry("A setting is wrong", "Correct each variable named and start again."),
    "slot-decided": Entry("The slot was decided already", "Nothing is to be done: another scheduler was first."),
    "source-query-invalid": Entry("The query cannot be used", "Write one SELECT whose columns have different names."),
    "stream-invalid": Entry(
        "Not the name of a stream",
        "Write the stream as the connector type's documentation says, for example schema.table.",
    ),
    "stream-missing": Entry(
        "The stream is not there", "Check the name against discovery, and the user's right to see it."
    ),
    "stream-not-a-table": Entry("Not a table", "Load into a table; views and foreign tables cannot be loaded."),
    "token-invalid": Entry("The token is not valid", "Log in again, or refresh, and send the new access token."),
    "token-missing": Entry("Not logged in", "Send Authorization: Bearer with an access token of POST /api/auth/login."),
    "transformation-in-use": Entry("Pipelines use this transformation", "Change or delete the pipelines named first."),
    "transformation-unknown": Entry(
        "No such transformation",
        "Check the name or id with GET /api/transformations; a transformation lives in one workspace.",
    ),
    "trigger-invalid": Entry(
        "The trigger is wrong",
        "Write five cron fields and a time zone such as Europe/Zurich, or a length of time such as 10m.",
    ),
    "type-not-convertible": Entry(
        "The field cannot be read as this type", "Read it as its own type or as text and cast it in a step."
    ),
    "type-unknown": Entry("No such type", "Use one of the types the detail lists."),
    "type-unsupported": Entry(
        "A type cannot be kept exactly", "Read the field in another type, or drop it before the step named."
    ),
    "unbalanced": Entry(
        "The ledger does not add up",
        "Nothing was committed. Look at the ledger's violations and the logs, and report the run: a row was lost.",
    ),
    "user-inactive": Entry(
        "The account is deactivated",
        "Ask an administrator to activate it with PATCH /api/users/{user}.",
    ),
    "user-not-found": Entry(
        "No such user",
        "Check the id or e-mail; users of other workspaces are not shown.",
    ),
    "user-of-another-workspace": Entry(
        "The account belongs to another workspace",
        "Ask an administrator of its home workspace; here only the membership can be changed.",
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
    "version-stale": Entry(
        "Somebody else changed it first", "Read it again, look at what changed, and send your change with the new ETag."
    ),
    "workspace-denied": Entry("Not your workspace", "Name a workspace you are a member of in X-Workspace."),
    "workspace-not-found": Entry(
        "No such workspace",
        "List the workspaces you are a member of; what is not yours looks the same.",
    ),
    "write-mode-unknown": Entry(
        "The destination cannot write this way",
        "Use one of the write modes GET /api/connector-types lists for the type.",
    ),
}
