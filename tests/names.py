"""Names that would be statements: for tests of every place where a name becomes part of SQL."""

from collections.abc import Iterator

ENDS = (
    '"', '""', "'", "''", "`", "]", "\\", '\\"', "\\'", "$$", "$1", ";", "\n", "\r\n", "\u2028", "\u02bc", "\uff02",
    "/*", "*/",
)  # fmt: skip
STATEMENTS = (
    "DROP TABLE held", "; DROP TABLE held; --", " int); DROP TABLE held; --", " FROM held) TO STDOUT --",
    " AS x, (SELECT 1) AS y", "; SELECT pg_sleep(9)", " UNION SELECT 1 FROM held", "||(SELECT 1 FROM held)||",
    "; ATTACH 'x'", "/**/OR/**/1=1", ' COLLATE "C"', "::regclass", ".held", "{}", "%s", "%(a)s", ":a", "?",
)  # fmt: skip
PLAIN = (
    "select", "SELECT", "user", "\u00fc" * 30, "\U0001f600", " ", " a", "a ", "\t", "a" * 63, "a" * 64, "\u00e9" * 32,
    "", "\0", "a\0b", "\ud800",
)  # fmt: skip


def hostile() -> Iterator[str]:
    """What ends a name in some dialect, and what would be said after it."""
    yield from PLAIN
    yield from ENDS
    yield from (f"a{end}{statement}" for end in ENDS for statement in STATEMENTS)


NAMES = list(dict.fromkeys(hostile()))
