"""The floor beside our queued runs: Celery on a quorum queue of a private RabbitMQ, tasks that do nothing at all.

It keeps no history, has no API, no login and no ledger; what it takes is what carrying a task takes.
"""

import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from deploy.local.rabbitmq import PrivateRabbit
from tests.bench.table import percentiles, show, spread

FOLDER = Path(os.environ.get("BENCH_PEERS", ".venv-bench")).absolute()
SCRIPT = Path(__file__).with_name("celery_peer.py")
ROUNDS = 3


def main() -> None:
    """Measure and print; without the peer's environment say how to get it."""
    python = FOLDER / "bin" / "python"
    if not python.exists():
        print("celery: not installed; `make bench` installs it")
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, PrivateRabbit(Path(folder)) as broker:
        environment = {"PATH": os.environ["PATH"], "CELERY_BROKER": broker.url(), "HOME": folder}
        quiet = subprocess.DEVNULL
        words = [str(python), str(SCRIPT), "work"]
        worker = subprocess.Popen(words, env=environment, cwd=folder, stdout=quiet, stderr=quiet)
        try:
            ask(python, environment, 10, 1)  # warm
            single = ask(python, environment, 1, 50)
            latency = [["one after the other", *percentiles(single)]]
            show("celery, quorum queue, a task of nothing, 2 worker processes", ("", "p50 ms", "p95 ms"), latency)
            rates = []
            for count in (200, 2_000):
                found = [count / seconds for seconds in ask(python, environment, count, ROUNDS)]
                rates.append([f"{count} at once", f"{statistics.median(found):.0f}", spread(found)])
            show("celery, queued tasks", ("", "tasks/s", "rounds"), rates)
        finally:
            worker.terminate()
            worker.wait(30)


def ask(python: Path, environment: dict[str, str], count: int, times: int) -> list[float]:
    command = [str(python), str(SCRIPT), "ask", str(count), str(times)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
