"""The ledger on a terminal: no row goes away between two columns without a word."""

import pytest

from dataaggregator.cli.output import apart, print_ledger


def test_what_a_step_counts_apart_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    stage = {"stage": "t[0]", "kind": "dedupe", "read": 9, "written": 2, "filtered": 0, "rejected": 0}
    stage |= {"accounting": "proven", "kept": 2, "duplicates": 7, "empty": None}
    assert apart(stage) == {"duplicates": 7}
    print_ledger({"stages": [stage], "receipts": [], "balanced": True})
    assert "duplicates=7" in capsys.readouterr().out
