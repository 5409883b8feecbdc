"""The reference: pages of settings, metrics and errors."""

from prometheus_client.metrics_core import Metric

from dataaggregator.catalogue import CATALOGUE, Entry
from dataaggregator.reference.markdown import HEAD, table
from dataaggregator.settings import Settings, is_secret, shown_default, variable
from dataaggregator.settings.logins import LoginSettings
from dataaggregator.telemetry.metrics import LABELS, REGISTRY


def settings() -> str:
    rows = [
        (
            f"`{variable(name)}`",
            f"`{default}`" if (default := shown_default(name)) else "",
            _unit(name),
            field.description or "",
        )
        for name, field in sorted(
            Settings.model_fields.items(), key=lambda field: field[0] in LoginSettings.model_fields
        )
    ]
    rows_shown = table(("variable", "default", "unit", ""), rows)
    secrets = ", ".join(f"`{variable(name)}`" for name in Settings.model_fields if is_secret(name))
    return (
        f"{HEAD}\n# Settings\n\nAll settings are environment variables. A wrong value stops the service with one line "
        "a variable and exit code 2; an empty one counts as not set.\n\nA secret can stand in a file instead, named by "
        "its variable with `_FILE` behind it (`SECRET_KEY_FILE=/run/dataaggregator/secrets/secret_key`). Secrets are "
        f"{secrets}.\n\n{rows_shown}"
    )


def metrics() -> str:
    ours = sorted((one for one in REGISTRY.collect() if one.name.startswith("dataaggregator_")), key=lambda m: m.name)
    rows = [(f"`{_exposed(one)}`", one.type, _labels(one), one.documentation) for one in ours]
    return (
        f"{HEAD}\n# Metrics\n\n`GET /metrics` of every service, in Prometheus' text format. Labels are bounded: never "
        f"an id.\n\n{table(('metric', 'type', 'labels', ''), rows)}"
    )


def _exposed(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in LABELS.get(metric.name, ()))


def errors() -> str:
    rows = [
        (f"[`{code}`](../troubleshooting/errors.md#{code})", entry.title) for code, entry in sorted(CATALOGUE.items())
    ]
    return (
        f"{HEAD}\n# Errors\n\nThe `code` of a problem never changes its meaning. Each links to what a person does "
        f"about it.\n\n{table(('code', 'title'), rows)}"
    )


def cures() -> str:
    sections = "".join(_cure(code, entry) for code, entry in sorted(CATALOGUE.items()))
    return (
        f"{HEAD}\n# What to do about an error\n\nEvery problem, failed run and failed check names one of these codes. "
        f"The `trace_id` beside it finds the call in the logs.\n{sections}"
    )


def _cure(code: str, entry: Entry) -> str:
    return f"\n## {code}\n\n**{entry.title}.** {entry.cure}\n"


def _unit(field: str) -> str:
    """What a field's number counts; empty if it is no number."""
    ending = field.rpartition("_")[2]
    if field == "execution_timeout":
        return "seconds"
    if field.startswith("rate_limit_") and field != "rate_limit_trusted_networks":
        return "requests/seconds"
    return ending if ending in ("seconds", "minutes", "days", "bytes") else ""
