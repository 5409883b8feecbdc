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
    "body-invalid": Entry("Wrong fields in the body", "Correct every field named under errors and send it again."),
    "body-too-large": Entry("The body is too large", "Send less at once; the limit is named in the detail."),
    "conflict": Entry("Not possible in this state", "Look at the present state of the resource, then decide again."),
    "cursor-invalid": Entry(
        "The cursor is not one of ours", "Begin again without cursor and go on with next_cursor as it is given."
    ),
    "database-unavailable": Entry(
        "The database does not answer",
        "Check that PostgreSQL runs and that DATABASE_URL reaches it; the call can be repeated as it is.",
    ),
    "email-taken": Entry(
        "The e-mail is taken",
        "Use another e-mail, or let the existing user into the workspace as a member.",
    ),
    "encoding-invalid": Entry("Not UTF-8 text", "Send addresses, headers and bodies as UTF-8."),
    "executor-lost": Entry(
        "An executor died at its work",
        "Another attempt asks the destination what was committed and goes on; if it returns, see the executor's log.",
    ),
    "folder-not-writable": Entry(
        "A folder cannot be written",
        "Make the folder writable for the user that starts the platform, or set DATAAGGREGATOR_HOME to one that is.",
    ),
    "header-invalid": Entry("A header is wrong", "Correct the header named under errors."),
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
    "internal-error": Entry(
        "An error of ours",
        "Repeat the call once; if it stays, report it with the trace_id, which finds it in the logs.",
    ),
    "invalid-credentials": Entry(
        "Wrong e-mail or password",
        "Check both; an administrator can set a new password with PATCH /api/users/{user}.",
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
    "ledger-not-there-yet": Entry(
        "No ledger yet", "Wait until an attempt of the run has ended; the ledger is stored with its outcome."
    ),
    "length-required": Entry("The body was cut off", "Send the whole body that Content-Length announces."),
    "login-busy": Entry(
        "Too many logins at once",
        "Try again in a moment.",
    ),
    "media-type-unsupported": Entry("The body is of another kind", "Send Content-Type: application/json."),
    "member-not-found": Entry(
        "Not a member",
        "List the workspace's members to see who is.",
    ),
    "method-not-allowed": Entry("Not with this method", "Use one of the methods that the Allow header names."),
    "no-workspace": Entry(
        "No workspace", "Name one in the X-Workspace header, or ask an administrator to make you a member of one."
    ),
    "not-found": Entry("Not there", "Check the id or name and the workspace; what is not yours looks the same."),
    "path-invalid": Entry("The address is wrong", "Correct the part of the path named under errors."),
    "permission-denied": Entry(
        "You may not do this", "Ask an administrator of the workspace for a role with the permission named."
    ),
    "pipeline-never-ran": Entry(
        "No run of it yet", "Check the name, or start a run: the state begins with the first one."
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
    "probe-timeout": Entry(
        "A trial took too long", "Check that the source answers quickly, ask for fewer rows, then try again."
    ),
    "query-invalid": Entry("Wrong query parameters", "Correct every parameter named under errors."),
    "rate-limited": Entry("Too many requests", "Wait for the seconds in Retry-After; RateLimit-* tell what is left."),
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
    "run-handed-back": Entry(
        "An executor stopped",
        "Nothing needs to be done: the run goes on with another executor, and the attempt does not count.",
    ),
    "run-memory-exceeded": Entry(
        "The run needed more memory than it may take",
        "Raise RUN_MEMORY_BYTES, or read fewer and narrower columns.",
    ),
    "run-not-found": Entry(
        "No such run", "Check the id and the workspace; a run that was only just asked for may need a moment."
    ),
    "run-not-started": Entry(
        "The run was not begun in time", "Start more executors or raise RUN_SLOTS, then retry the run."
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
    "sealed-data-unreadable": Entry(
        "A stored secret cannot be opened",
        "Start with the SECRET_KEY it was sealed with, or name that one in SECRET_KEY_PREVIOUS; else enter it anew.",
    ),
    "service-unavailable": Entry(
        "A service does not answer", "See GET /api/status for which and why; the call can be repeated as it is."
    ),
    "settings-invalid": Entry("A setting is wrong", "Correct each variable named and start again."),
    "token-invalid": Entry("The token is not valid", "Log in again, or refresh, and send the new access token."),
    "token-missing": Entry("Not logged in", "Send Authorization: Bearer with an access token of POST /api/auth/login."),
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
    "version-stale": Entry(
        "Somebody else changed it first", "Read it again, look at what changed, and send your change with the new ETag."
    ),
    "workspace-denied": Entry("Not your workspace", "Name a workspace you are a member of in X-Workspace."),
    "workspace-not-found": Entry(
        "No such workspace",
        "List the workspaces you are a member of; what is not yours looks the same.",
    ),
}
