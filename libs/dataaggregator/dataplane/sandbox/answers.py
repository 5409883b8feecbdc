"""What a sandbox sent, checked and typed; and what its death means."""

import signal
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from dataaggregator.dataplane.sandbox import rows, wire
from dataaggregator.dataplane.sandbox.messages import (
    Done,
    InputCounts,
    Output,
    Printed,
    Rejected,
    Rows,
    Sample,
    SandboxLimits,
    StageCounts,
)
from dataaggregator.errors import FieldError, Invalid, Permanent, PlatformError

# The only codes a sandbox may answer with: what it sends is not trusted to name any other.
INVALID_CODES = frozenset(
    {"definition-invalid", "expression-failed", "cast-failed", "validation-failed", "join-fan-out", "type-unsupported"}
    | {"expectation-failed", "python-failed", "python-output-invalid", "delete-mark-invalid", "delete-mark-unknown"}
)
BROKE_DOWN = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT})
"""How an engine ends that does not notice that an allocation failed."""

PERMANENT_CODES = frozenset(
    {"sandbox-memory", "sandbox-disk", "sandbox-unavailable", "sandbox-killed", "unbalanced", "merge-key-null"}
    | {"sandbox-output", "sandbox-timeout"}
)
PYTHON_LOST = "python-lost"
"""Said by a sandbox whose Python process is gone; why, the host finds out."""


def decode_output(frame: wire.Frame) -> Output:
    """One message of a sandbox at work; raises Permanent for anything else."""
    header = frame.header
    try:
        match frame.kind:
            case "rows":
                return Rows(str(header["node"]), rows.decode_untrusted(frame.body))
            case "rejected":
                node, stage, rule, reason = (str(header[key]) for key in ("node", "stage", "rule", "reason"))
                return Rejected(node, stage, rule, reason, rows.decode_untrusted(frame.body))
            case "sample":
                return Sample(str(header["stage"]), rows.decode_untrusted(frame.body))
            case "printed":
                return Printed(str(header["stage"]), str(header["text"]))
            case "counts":
                return _counts(header["counts"])
            case "done":
                return Done()
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, pa.ArrowException) as error:
        raise Permanent("sandbox-killed", f"the sandbox sent a {frame.kind} that cannot be read") from error
    raise Permanent("sandbox-killed", f"the sandbox sent a {frame.kind}, which no sandbox sends")


def _counts(sent: Mapping[str, Any]) -> StageCounts:
    inputs = {name: InputCounts(**counts) for name, counts in sent["inputs"].items()}
    return StageCounts(**{**sent, "inputs": inputs})


def decode_error(frame: wire.Frame) -> PlatformError:
    """The error a sandbox reported, with a code it may use."""
    header = frame.header
    code, detail = str(header.get("code")), str(header.get("detail"))
    errors = [
        FieldError(str(e.get("field")), str(e.get("message")), str(e.get("code"))) for e in header.get("errors", [])
    ]
    if code in INVALID_CODES:
        return Invalid(code, detail, errors=errors)
    return Permanent(code if code in PERMANENT_CODES else "sandbox-killed", detail)


def cause_of_death(status: int, said: str, limits: SandboxLimits) -> PlatformError:
    """Why a sandbox ended without saying so itself: its exit status, its last words on stderr."""
    last_words = f"({said.strip()[-400:]})" if said.strip() else "without a word"
    if status == -signal.SIGXCPU:
        return Permanent(
            "sandbox-timeout",
            f"the steps used {limits.cpu_seconds} s of processor time without an answer and were ended",
        )
    if status < 0 and any(word in said for word in ("bad_alloc", "MemoryError", "allocat", "out of memory")):
        return Permanent("sandbox-memory", memory_sentence(limits.memory_bytes))
    if status == -signal.SIGXFSZ:
        return Permanent("sandbox-disk", f"the steps wanted to write more than {limits.spill_bytes} bytes to disk")
    if -status in BROKE_DOWN:
        how = f"the engine broke down ({signal.Signals(-status).name}), as it does when it gets no more memory"
        return Permanent("sandbox-memory", f"{how}; a sandbox may use {limits.memory_bytes >> 20} MiB {last_words}")
    if status < 0:
        return Permanent("sandbox-killed", f"the sandbox was ended by {signal.Signals(-status).name} {last_words}")
    return Permanent("sandbox-killed", f"the sandbox ended by itself with status {status} {last_words}")


def memory_sentence(memory_bytes: int) -> str:
    """What to say when the memory limit was reached."""
    return f"the steps needed more memory than the {memory_bytes >> 20} MiB a sandbox may use"
