"""What lies in a run folder is read as far as it can be; what goes over the wire shows nothing where it is refused."""

from pathlib import Path
from uuid import UUID

import pytest
from pydantic import ValidationError

from dataaggregator.contracts.run import RunCounts
from dataaggregator.dataplane.extract import RECORD, Extract, extracts, pass_folder
from dataaggregator.dataplane.job import ConnectorUse, ProbeJob

WHOLE = Extract(takers=("a",), came_from={}, cursors={}, stages=(), edges=(), producers={}, counts=RunCounts())


@pytest.mark.parametrize("kept", [0, 1, 30])
def test_a_record_that_a_power_cut_left_half_is_none(tmp_path: Path, kept: int) -> None:
    for attempt in (1, 2):
        WHOLE.save(pass_folder(tmp_path, attempt, 1))
    torn = pass_folder(tmp_path, 2, 1) / RECORD
    torn.write_bytes(torn.read_bytes()[:kept])
    assert list(extracts(tmp_path)) == [WHOLE]


@pytest.mark.security
def test_a_job_that_is_refused_does_not_show_its_secrets() -> None:
    with pytest.raises(ValidationError) as refused:
        ConnectorUse.model_validate({"type": "postgres", "config": "hunter2canary"})
    assert "hunter2canary" not in str(refused.value)
    with pytest.raises(ValidationError) as refused:
        ProbeJob.model_validate({"probe": "discover", "workspace_id": UUID(int=0), "mask_key": "hunter2canary"})
    assert "hunter2canary" not in str(refused.value)
