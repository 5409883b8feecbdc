"""A dead process is told from a live one and from a stranger that got its number."""

import os
import subprocess
import sys
from dataclasses import replace

from services.executor.whereabouts import ProcessIdentity, identify, is_provably_gone


def myself() -> ProcessIdentity:
    found = identify(os.getpid())
    assert found is not None
    return found


def test_a_live_process_is_not_gone() -> None:
    assert not is_provably_gone(myself())


def test_a_number_given_to_another_process_does_not_hide_the_death() -> None:
    assert is_provably_gone(replace(myself(), started=1))


def test_a_process_elsewhere_cannot_be_declared_dead_from_here() -> None:
    assert not is_provably_gone(replace(myself(), boot_id="another", started=1))
    assert not is_provably_gone(replace(myself(), pid_namespace="pid:[1]", started=1))


def test_a_zombie_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    found = identify(child.pid)
    assert found is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_provably_gone(found)
    assert child.stdin is not None
    child.stdin.close()
    child.wait()


def test_an_identity_survives_the_way_through_json() -> None:
    assert ProcessIdentity.from_json(myself().as_json()) == myself()
