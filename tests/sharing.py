"""How the workers of a test run share it: whole files, and all end-to-end tests of one composition to one worker."""

import re
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

COMPOSITION = re.compile(r"^tests/e2e/.*\[(embedded|full)[-\]]")


class Sharing(LoadFileScheduling):  # type: ignore[misc]  # the plugin has no types
    """A platform of each composition is started once a run, not once a file."""

    def _split_scope(self, nodeid: str) -> str:
        found = COMPOSITION.match(nodeid)
        return str(super()._split_scope(nodeid)) if found is None else found[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Sharing:
    """What xdist asks for."""
    return Sharing(config, log)
