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

FOLDER = Path(os.environ.get("BENCH_PEERS", ".venv-bench"))
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
            print(f"celery, quorum queue, a task of nothing, 2 worker processes, {os.cpu_count()} cores")
            print(f"  one after the other        p50 {statistics.median(single) * 1000:7.1f} ms")
            for count in (200, 2_000):
                rates = sorted(count / seconds for seconds in ask(python, environment, count, ROUNDS))
                told = ", ".join(f"{rate:.0f}" for rate in rates)
                print(f"  {count} asked for at once      {statistics.median(rates):6.0f} tasks/s   (rounds: {told})")
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
