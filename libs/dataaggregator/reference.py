"""Writes the generated pages of docs/ from settings, metrics and catalogue; ``--check`` only compares them."""

import sys
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.metrics_core import Metric

from dataaggregator.catalogue import CATALOGUE, Entry
from dataaggregator.settings import Settings, is_secret, shown_default, unit, variable
from dataaggregator.telemetry.metrics import LABELS, REGISTRY

_HEAD = "<!-- Written by `python -m dataaggregator.reference`; change the code it is made from, not this page. -->\n"


def pages() -> dict[str, str]:
    """Every generated page by its path below docs/."""
    return {
        "reference/settings.md": _settings(),
        "reference/metrics.md": _metrics(),
        "reference/errors.md": _errors(),
        "troubleshooting/errors.md": _cures(),
    }


def differing(docs: Path) -> list[str]:
    """The pages that are not what the code says."""
    return [name for name, text in pages().items() if not (docs / name).is_file() or (docs / name).read_text() != text]


def write(docs: Path) -> None:
    """Write every page that differs."""
    for name in differing(docs):
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages()[name])


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` name those that are out of date (exit code 1)."""
    docs = Path("docs")
    if not docs.is_dir():
        sys.stderr.write("There is no folder docs here: run this in the root of the repository.\n")
        return 2
    if "--check" not in arguments:
        write(docs)
        return 0
    old = differing(docs)
    for name in old:
        sys.stderr.write(f"docs/{name} is not what the code says: run python -m dataaggregator.reference\n")
    return 1 if old else 0


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    names = list(head)
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def _settings() -> str:
    rows = [
        (
            f"`{variable(name)}`",
            f"`{default}`" if (default := shown_default(name)) else "",
            unit(name),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]
    table = _table(("variable", "default", "unit", ""), rows)
    secrets = ", ".join(f"`{variable(name)}`" for name in Settings.model_fields if is_secret(name))
    return (
        f"{_HEAD}\n# Settings\n\nAll settings are environment variables. A wrong value stops the service with one line "
        "a variable and exit code 2; an empty one counts as not set.\n\nA secret can stand in a file instead, named by "
        "its variable with `_FILE` behind it (`SECRET_KEY_FILE=/run/dataaggregator/secrets/secret_key`). Secrets are "
        f"{secrets}.\n\n{table}"
    )


def _metrics() -> str:
    ours = sorted((one for one in REGISTRY.collect() if one.name.startswith("dataaggregator_")), key=lambda m: m.name)
    rows = [(f"`{_exposed(one)}`", one.type, _labels(one), one.documentation) for one in ours]
    return (
        f"{_HEAD}\n# Metrics\n\n`GET /metrics` of every service, in Prometheus' text format. Labels are bounded: never "
        f"an id.\n\n{_table(('metric', 'type', 'labels', ''), rows)}"
    )


def _exposed(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in LABELS.get(metric.name, ()))


def _errors() -> str:
    rows = [
        (f"[`{code}`](../troubleshooting/errors.md#{code})", entry.title) for code, entry in sorted(CATALOGUE.items())
    ]
    return (
        f"{_HEAD}\n# Errors\n\nThe `code` of a problem never changes its meaning. Each links to what a person does "
        f"about it.\n\n{_table(('code', 'title'), rows)}"
    )


def _cures() -> str:
    sections = "".join(_cure(code, entry) for code, entry in sorted(CATALOGUE.items()))
    return (
        f"{_HEAD}\n# What to do about an error\n\nEvery problem, failed run and failed check names one of these codes. "
        f"The `trace_id` beside it finds the call in the logs.\n{sections}"
    )


def _cure(code: str, entry: Entry) -> str:
    return f"\n## {code}\n\n**{entry.title}.** {entry.cure}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
