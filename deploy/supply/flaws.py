"""Known flaws of what an image installs, from the lock, and until when each has to be mended: docs/security.md.

python -m deploy.supply.flaws [DATABASE]

The database is asked by package and version, nothing else is told; the answer is in the schema of OSV
(https://ossf.github.io/osv-schema/). Ends with 1 when a time is over.
"""

import json
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.supply.sbom import ROOT, pins

DATABASE = "https://api.osv.dev/v1"
ASKED_AT_ONCE = 500
TIMEOUT_SECONDS = 30.0

DAYS = {"critical": 7, "high": 30, "moderate": 90, "low": 180}
"""Severity → days after its publication in which a flaw is mended, here and in a release."""

SEVERITIES = tuple(DAYS)
UNKNOWN = "high"
"""What counts for a flaw of which nobody has said how severe it is."""


@dataclass(frozen=True)
class Flaw:
    """One flaw of one pin, under all names that the database has for it."""

    purl: str
    names: frozenset[str]
    severity: str
    published: datetime

    @property
    def due(self) -> datetime:
        return self.published + timedelta(days=DAYS[self.severity])

    def told(self, now: datetime) -> str:
        days = (self.due - now).days
        when = f"{days} days left" if now <= self.due else f"OVER since {-days} days"
        return f"{self.purl}: {', '.join(sorted(self.names))}: {self.severity}, mend by {self.due:%Y-%m-%d}, {when}"


def flaws(purls: Sequence[str], database: str = DATABASE) -> list[Flaw]:
    """What the database knows of these, the most urgent first; OSError where it does not answer."""
    found: list[Flaw] = []
    records: dict[str, Mapping[str, Any]] = {}
    for purl, names in _named(purls, database):
        for name in names:
            if name not in records:
                records[name] = _call(f"{database}/vulns/{name}")
        found += _joined(purl, [records[name] for name in names if "withdrawn" not in records[name]])
    return sorted(found, key=lambda flaw: (flaw.due, flaw.purl))


def _named(purls: Sequence[str], database: str) -> Iterator[tuple[str, list[str]]]:
    """Of each that has any, the names of its flaws, page by page."""
    for start in range(0, len(purls), ASKED_AT_ONCE):
        asked: list[tuple[str, str | None]] = [(purl, None) for purl in purls[start : start + ASKED_AT_ONCE]]
        names: dict[str, list[str]] = {}
        while asked:
            queries = [{"package": {"purl": purl}, **({"page_token": token} if token else {})} for purl, token in asked]
            results = _call(f"{database}/querybatch", {"queries": queries})["results"]
            for (purl, _), result in zip(asked, results, strict=True):
                names.setdefault(purl, []).extend(one["id"] for one in result.get("vulns", ()))
            asked = [
                (purl, result["next_page_token"])
                for (purl, _), result in zip(asked, results, strict=True)
                if result.get("next_page_token")
            ]
        yield from ((purl, found) for purl, found in names.items() if found)


def _joined(purl: str, records: Iterable[Mapping[str, Any]]) -> Iterator[Flaw]:
    """One flaw for all records that name each other: as severe as the worst says, as old as the oldest."""
    groups: list[tuple[set[str], list[Mapping[str, Any]]]] = []
    for record in records:
        names, together = {record["id"], *record.get("aliases", ())}, [record]
        for group in [group for group in groups if group[0] & names]:
            groups.remove(group)
            names |= group[0]
            together += group[1]
        groups.append((names, together))
    for names, together in groups:
        said = [one for record in together if (one := _severity(record)) is not None]
        severity = min(said, key=SEVERITIES.index) if said else UNKNOWN
        published = min(datetime.fromisoformat(record.get("published", record["modified"])) for record in together)
        yield Flaw(purl, frozenset(names), severity, published)


def _severity(record: Mapping[str, Any]) -> str | None:
    said = str(record.get("database_specific", {}).get("severity", "")).lower()
    said = "moderate" if said == "medium" else said
    return said if said in DAYS else None


def _call(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - who runs it names it
        return json.load(answer)


def main(words: Sequence[str]) -> int:
    purls = sorted({pin.purl for pin in pins((ROOT / "requirements.lock").read_text())})
    try:
        found = flaws(purls, *words[:1])
    except OSError as error:
        sys.stderr.write(f"The database of flaws does not answer: {error}. Nothing was looked up.\n")
        return 2
    now = datetime.now(UTC)
    sys.stdout.writelines(f"{flaw.told(now)}\n" for flaw in found)
    over = sum(now > flaw.due for flaw in found)
    sys.stdout.write(f"{len(purls)} packages, {len(found)} flaws known, {over} over their time.\n")
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
