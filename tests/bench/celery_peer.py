"""Celery as the floor: a task that does nothing, confirmed into a quorum queue, acknowledged when done, answered.

It runs in an environment of its own (`make bench` installs requirements.lock there) and so imports nothing of ours:
`celery_peer.py ask COUNT TIMES` prints the seconds of that many tasks asked for at once, so many times, as JSON.
"""

import json
import os
import sys
import time

from celery import Celery, group

app = Celery("celery_peer", broker=os.environ["CELERY_BROKER"], backend="rpc://")
app.conf.update(
    task_default_queue="bench",
    task_default_queue_type="quorum",
    task_acks_late=True,
    worker_prefetch_multiplier=8,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)


def do_nothing() -> int:
    """No work: what is left is what carrying it costs."""
    return 1


nothing = app.task(do_nothing, name="nothing")


def ask(count: int, times: int) -> list[float]:
    """Seconds from the first one asked for to the last one answered, each time."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        answers = group(nothing.s() for _ in range(count)).apply_async().get(timeout=300)
        found.append(time.perf_counter() - began)
        assert sum(answers) == count
    return found


if __name__ == "__main__":
    if sys.argv[1] == "work":
        app.worker_main(["worker", "--concurrency=2", "--loglevel=ERROR", "--without-gossip", "--without-mingle"])
    else:
        print(json.dumps(ask(int(sys.argv[2]), int(sys.argv[3]))))
