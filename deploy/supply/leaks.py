"""Secrets in files that are handed on: rules for what givers of secrets give out, and a measure for what they do not.

python -m deploy.supply.leaks: exit 1 and one line a find, which never has the secret itself in it.
"""

import hashlib
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ALLOWED = Path(__file__).with_name("allowed_leaks.txt")
#: Bits a character: a hexadecimal key of 32 has 3.4 to 3.9; what is below is a word or a pattern.
ENTROPY_BITS = 3.2
LARGEST_BYTES = 2 * 1024 * 1024

_RULES: Mapping[str, re.Pattern[str]] = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+(?P<secret>[A-Za-z0-9+/=\s]{40,})"),
    "key of AWS": re.compile(r"\b(?P<secret>(?:AKIA|ASIA)[0-9A-Z]{16})\b"),
    "token of GitHub": re.compile(r"\b(?P<secret>gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"),
    "token of GitLab": re.compile(r"\b(?P<secret>glpat-[A-Za-z0-9_-]{20,})"),
    "token of Slack": re.compile(r"\b(?P<secret>xox[abeprs]-[A-Za-z0-9-]{20,})"),
    "key of Google": re.compile(r"\b(?P<secret>AIza[0-9A-Za-z_-]{35})\b"),
    "key of Stripe": re.compile(r"\b(?P<secret>[rs]k_live_[0-9A-Za-z]{20,})"),
    "key of an Azure account": re.compile(r"AccountKey=(?P<secret>[A-Za-z0-9+/]{86}==)"),
    "signed token": re.compile(r"\b(?P<secret>eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,})"),
    "what the platform gives out": re.compile(r"\b(?P<secret>(?:da[hr]?_|whsec_)[A-Za-z0-9_+/=-]{32,})"),
}
_NAMED = re.compile(
    r"(?i)(?:password|passwd|secret|token|(?:api|access|private)[_-]?key|credential)[\w-]*[\"']?\s*(?:=|:)\s*"
    r"[\"']?(?P<secret>[A-Za-z0-9+/=_.~-]{20,200})[\"']?"
)


@dataclass(frozen=True)
class Leak:
    path: str
    line: int
    rule: str
    mark: str
    """Tells a find from another one without telling it."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule} ({self.mark})"


def leaks(path: str, text: str) -> Iterator[Leak]:
    """What looks like a secret in a file, by its first line."""
    for rule, pattern in _RULES.items():
        for found in pattern.finditer(text):
            yield _leak(path, text, rule, found)
    for found in _NAMED.finditer(text):
        if entropy(found["secret"]) >= ENTROPY_BITS and _mixed(found["secret"]):
            yield _leak(path, text, "value of a secret's name", found)


def entropy(value: str) -> float:
    """Bits a character (Shannon)."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _mixed(value: str) -> bool:
    """Names of things are letters and what joins them; made-up keys have digits among them."""
    return bool(re.search(r"[0-9]", value) and re.search(r"[A-Za-z]", value)) and not re.search(r"[a-z]{10}", value)


def _leak(path: str, text: str, rule: str, found: re.Match[str]) -> Leak:
    mark = hashlib.sha256("".join(found["secret"].split()).encode()).hexdigest()[:12]
    return Leak(path, text.count("\n", 0, found.start("secret")) + 1, rule, mark)


def allowed(written: str) -> Mapping[tuple[str, str], str]:
    """Path and mark → why it is no secret; a line without a reason is refused."""
    kept = {}
    for line in written.splitlines():
        if line.strip() and not line.startswith("#"):
            path, mark, reason = line.split(None, 2)
            kept[path, mark] = reason
    return kept


def judged(found: Iterable[Leak], known: Mapping[tuple[str, str], str]) -> Sequence[str]:
    """What is wrong: leaks that nobody has allowed, and permissions that nothing needs any more."""
    leaked = list(found)
    there = {(one.path, one.mark) for one in leaked}
    new = sorted({str(one) for one in leaked if (one.path, one.mark) not in known})
    return [
        *new,
        *(f"{path}: {mark} is allowed and not there any more" for path, mark in known if (path, mark) not in there),
    ]


def files(root: Path) -> Iterator[tuple[str, str]]:
    """What is handed on: every file under version control, as far as it is text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout  # noqa: S607
    for name in filter(None, listed.decode().split("\0")):
        path = root / name
        if path.is_file() and path.stat().st_size <= LARGEST_BYTES:
            raw = path.read_bytes()
            if b"\0" not in raw[:8192]:
                yield name, raw.decode(errors="replace")


def main(root: Path = ROOT, written: Path = ALLOWED) -> int:
    found = [leak for path, text in files(root) if not path.endswith(".lock") for leak in leaks(path, text)]
    wrong = judged(found, allowed(written.read_text()))
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    if wrong:
        sys.stderr.write(f"Take it out and change the secret; what is none goes into {written.name} with its reason.\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
