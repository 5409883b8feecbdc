"""The generated pages are what the code says."""

from pathlib import Path

from dataaggregator import reference
from dataaggregator.catalogue import CATALOGUE
from dataaggregator.settings import Settings, variable

CONTRACT = [
    "http_requests_total",
    "http_request_duration_seconds",
    "db_pool_connections",
    "db_pool_wait_seconds",
    "bus_published_total",
    "bus_consumed_total",
    "outbox_pending",
    "outbox_oldest_seconds",
    "parked_messages",
    "runs_total",
    "run_duration_seconds",
    "runs_in_state",
    "run_rows_total",
    "run_unbalanced_total",
    "schedule_lag_seconds",
    "rate_limited_total",
    "logins_total",
    "build_info",
]


def test_every_setting_metric_and_error_has_its_line() -> None:
    pages = reference.pages()
    for field in Settings.model_fields:
        assert f"| `{variable(field)}` |" in pages["reference/settings.md"]
    for metric in CONTRACT:
        assert f"| `dataaggregator_{metric}` |" in pages["reference/metrics.md"]
    for code in CATALOGUE:
        assert f"(../troubleshooting/errors.md#{code})" in pages["reference/errors.md"]
        assert f"\n## {code}\n" in pages["troubleshooting/errors.md"]


def test_pages_that_differ_are_named_and_written_anew(tmp_path: Path) -> None:
    assert reference.differing(tmp_path) == list(reference.pages())
    reference.write(tmp_path)
    assert reference.differing(tmp_path) == []
    (tmp_path / "reference/errors.md").write_text("changed by hand")
    assert reference.differing(tmp_path) == ["reference/errors.md"]
