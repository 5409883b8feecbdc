"""Known flaws of what is installed: each has a time in which it is mended, and that is over when it is over."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deploy.supply import flaws
from deploy.supply.sbom import ROOT, pins

NOW = datetime.now(UTC)


class Database(ThreadingHTTPServer):
    """Speaks as https://api.osv.dev/v1 does: names by page, then each record by its name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.named: dict[str, list[list[str]]] = {}  # pages of names by purl
        self.records: dict[str, dict[str, Any]] = {}
        self.asked: list[Any] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def knows(self, purl: str, name: str, days: float, **more: Any) -> None:
        """A flaw that was published so many days ago."""
        self.named.setdefault(purl, [[]])[0].append(name)
        published = (NOW - timedelta(days=days)).isoformat().replace("+00:00", "Z")
        self.records[name] = {"id": name, "modified": published, "published": published, **more}

    def answer(self, queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As many answers as questions, in their order; a page names the next one."""
        self.asked += [queries]
        results: list[dict[str, Any]] = []
        for query in queries:
            pages, number = self.named.get(query["package"]["purl"], [[]]), int(query.get("page_token", "0"))
            more = {"next_page_token": str(number + 1)} if number + 1 < len(pages) else {}
            results.append({"vulns": [{"id": name} for name in pages[number]], **more} if pages[number] else {})
        return results


class Door(BaseHTTPRequestHandler):
    server: Database

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self._answer({"results": self.server.answer(json.loads(self.rfile.read(length))["queries"])})

    def do_GET(self) -> None:
        self._answer(self.server.records[self.path.rpartition("/")[2]])

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def _answer(self, told: Any) -> None:
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def severe(word: str) -> dict[str, Any]:
    return {"database_specific": {"severity": word}}


@pytest.mark.parametrize(
    ("word", "days"),
    [("CRITICAL", 7), ("HIGH", 30), ("MODERATE", 90), ("MEDIUM", 90), ("LOW", 180), ("", 30), ("odd", 30)],
)
def test_how_severe_a_flaw_is_says_in_how_many_days_it_is_mended(database: Database, word: str, days: int) -> None:
    database.knows("pkg:pypi/a@1", "GHSA-1", days - 0.5, **severe(word))
    database.knows("pkg:pypi/b@1", "GHSA-2", days + 0.5, **severe(word))
    late, early = flaws.flaws(["pkg:pypi/a@1", "pkg:pypi/b@1", "pkg:pypi/c@1"], database.url)
    assert (late.purl, late.due < NOW, early.due < NOW) == ("pkg:pypi/b@1", True, False)
    assert "OVER since 1 days" in late.told(NOW)
    assert "0 days left" in early.told(NOW)


def test_records_that_name_each_other_are_one_flaw_as_severe_and_as_old_as_any_says(database: Database) -> None:
    database.knows("pkg:pypi/a@1", "PYSEC-1", 20, aliases=["CVE-1"])
    database.knows("pkg:pypi/a@1", "GHSA-2", 3, **severe("LOW"))
    database.knows("pkg:pypi/a@1", "GHSA-1", 10, aliases=["CVE-1"], **severe("CRITICAL"))
    both, other = flaws.flaws(["pkg:pypi/a@1"], database.url)
    assert both.names == {"PYSEC-1", "CVE-1", "GHSA-1"}
    assert (both.severity, (NOW - both.published).days) == ("critical", 20)
    assert other.names == {"GHSA-2"}


def test_what_was_withdrawn_is_none(database: Database) -> None:
    database.knows("pkg:pypi/a@1", "GHSA-1", 400, withdrawn="2026-01-01T00:00:00Z")
    assert flaws.flaws(["pkg:pypi/a@1"], database.url) == []


def test_a_record_that_does_not_say_when_it_was_published_counts_from_its_last_change(database: Database) -> None:
    database.knows("pkg:pypi/a@1", "GHSA-1", 5)
    del database.records["GHSA-1"]["published"]
    [flaw] = flaws.flaws(["pkg:pypi/a@1"], database.url)
    assert (NOW - flaw.published).days == 5


def test_every_page_is_read_and_no_question_is_too_long(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flaws, "ASKED_AT_ONCE", 2)
    for number in range(4):
        database.knows("pkg:pypi/a@1", f"GHSA-{number}", number, **severe("LOW"))
    database.named["pkg:pypi/a@1"] = [["GHSA-0", "GHSA-1"], ["GHSA-2"], ["GHSA-3"]]
    found = flaws.flaws([f"pkg:pypi/{name}@1" for name in "abc"], database.url)
    assert {name for flaw in found for name in flaw.names} == {f"GHSA-{number}" for number in range(4)}
    assert [len(queries) for queries in database.asked] == [2, 1, 1, 1]


def test_the_whole_lock_is_looked_up_and_a_time_that_is_over_fails(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    locked = {pin.purl for pin in pins((ROOT / "requirements.lock").read_text())}
    assert flaws.main([database.url]) == 0
    assert {query["package"]["purl"] for queries in database.asked for query in queries} == locked
    database.knows(min(locked), "GHSA-1", 400, **severe("LOW"))
    assert flaws.main([database.url]) == 1
    assert f"{len(locked)} packages, 1 flaws known, 1 over their time." in capsys.readouterr().out


def test_a_database_that_does_not_answer_is_not_taken_for_one_that_knows_of_none(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    url = database.url
    database.server_close()
    assert flaws.main([url]) == 2
    assert "Nothing was looked up" in capsys.readouterr().err


def test_the_page_about_security_promises_the_times_that_are_held() -> None:
    """What an operator reads there is what the lock is held to."""
    page = (ROOT / "docs" / "security.md").read_text()
    told = re.findall(r"^\| (critical|high|moderate|low) \| (\d+) days \|", page, re.MULTILINE)
    assert {severity: int(days) for severity, days in told} == flaws.DAYS
    assert f"counts as {flaws.UNKNOWN}" in page
