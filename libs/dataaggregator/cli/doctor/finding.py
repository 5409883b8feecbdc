"""A finding: what was looked at, how it is, and where its cure stands."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dataaggregator.catalogue import help_section
from dataaggregator.errors import PlatformError
from dataaggregator.telemetry.redaction import mask_text

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """`help` is a section of the troubleshooting guide; None where all is well."""

    name: str
    status: Verdict
    detail: str
    help: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def well(name: str, detail: str) -> Finding:
    return Finding(name, "ok", detail)


def doubtful(name: str, detail: str, code: str) -> Finding:
    return Finding(name, "warn", detail, help_section(code))


def ill(name: str, detail: str, code: str) -> Finding:
    return Finding(name, "fail", detail, help_section(code))


def of_error(name: str, error: PlatformError) -> Finding:
    return ill(name, mask_text(error.detail), error.code)
