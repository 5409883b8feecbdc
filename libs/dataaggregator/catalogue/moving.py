"""The catalogue: why an installation does not move."""

from dataaggregator.catalogue.entry import Entry

MOVING: dict[str, Entry] = {
    "archive-damaged": Entry(
        "The archive is not whole", "Copy it once more and compare the sizes, or export anew; nothing was imported."
    ),
    "archive-other-key": Entry(
        "The archive was sealed with another SECRET_KEY",
        "Set the SECRET_KEY of the exported installation, which seals its connectors' secrets too, and import again.",
    ),
    "archive-other-version": Entry(
        "The archive is of another version",
        "Run both installations with one version, migrate both with `dataaggregator db upgrade`, and export again.",
    ),
    "database-not-owner": Entry(
        "The database user does not own the tables",
        "Set DATABASE_URL to the user who ran `dataaggregator db upgrade`, or grant that role to this one as long as "
        "the command takes; nothing was changed.",
    ),
    "installation-missing": Entry(
        "There is no installation in this home", "Set DATAAGGREGATOR_HOME to the folder of the one that is meant."
    ),
    "installation-moved": Entry(
        "The installation was exported and goes on elsewhere",
        "Use the one it was imported into. To go on here instead, delete the file that the detail names: two that run "
        "at once would load everything twice.",
    ),
    "installation-not-empty": Entry(
        "There is an installation in the database already",
        "Import into a new database, after `dataaggregator db upgrade` and before any service is started.",
    ),
    "installation-running": Entry(
        "Services of the installation still run", "Stop all services that use the database, then repeat the command."
    ),
    "not-embedded": Entry(
        "Only an embedded installation is exported",
        "Events of a full one may be on their way in RabbitMQ: move it with the backups of its servers.",
    ),
}
