"""The matrix of attacks on the sandbox is as large as it was promised, each kind of bomb among them."""

from tests.integration.sandbox import attempts, python_attempts
from tests.integration.sandbox.test_python_bombs import BROKEN, MEMORY, REFUSED, TIME, WAITING

OUTPUT = {"printing", "printing past Python", "a long message", "rows without bytes"}
SPREADING = {"forks", "threads", "descriptors"}


def test_ways_out_by_sql_are_sixty_and_more() -> None:
    tried = (*attempts.QUERIES, *attempts.EXPRESSIONS)
    assert len(set(tried)) == len(tried) >= 60


def test_ways_out_by_python_are_sixty_and_more_and_none_is_another_by_another_name() -> None:
    tried = tuple(python_attempts.EVERY.values())
    assert len(set(tried)) == len(tried) >= 60


def test_bombs_are_thirty_and_more_of_memory_time_spreading_disk_and_output() -> None:
    bombs = {**MEMORY, **TIME, **WAITING, **REFUSED, **BROKEN}
    assert len(set(bombs.values())) == sum(map(len, (MEMORY, TIME, WAITING, REFUSED, BROKEN))) >= 30
    assert min(len(MEMORY), len(TIME)) >= 5
    assert bombs.keys() >= OUTPUT | SPREADING | {"a full disk"}
