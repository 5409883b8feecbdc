"""Follows runs from outside the platform: prints the status of each until one has ended.

Needs Python 3.11 and aio-pika, nothing of the platform's own code. AMQP_URL names the broker; RUN_ID one run to wait
for (else the first that ends); WAIT_SECONDS how long (else 300). Ends with 0 when the run succeeded, else with 1.
"""

import asyncio
import json
import os
import sys
from collections import OrderedDict

import aio_pika

EXCHANGE = "dataaggregator.events"
QUEUE = "example-subscriber-python"
ENDS = {"succeeded", "failed", "cancelled", "timed_out", "skipped"}
REMEMBERED = 10_000


class Seen:
    """Events come at least once, so each id counts once. Where an event changes something, keep its id in the same
    database and transaction as the change: then it is applied exactly once, also after a restart."""

    def __init__(self):
        self.ids = OrderedDict()
        self.last = {}

    def is_news(self, event):
        """False for what was here before, and for what comes after a later event of the same source and subject."""
        if event["id"] in self.ids:
            return False
        self.ids[event["id"]] = True
        if len(self.ids) > REMEMBERED:
            self.ids.popitem(last=False)
        if event["sequence"] == 0:  # progress has no place in the order: it may be lost
            return True
        place = (event["source"], event["subject"])
        if event["sequence"] <= self.last.get(place, 0):
            return False
        self.last[place] = event["sequence"]
        return True


def event_of(message):
    """A CloudEvent in AMQP binary mode: its attributes are headers, its data is the body."""
    prefix = "cloudEvents_"
    attributes = {
        name.removeprefix(prefix): value for name, value in message.headers.items() if name.startswith(prefix)
    }
    return {**attributes, "data": json.loads(message.body)}


def line_of(event):
    """`run.succeeded.v1` → succeeded, and what belongs to it. Fields that are not known here are passed over."""
    status, data = event["type"].split(".")[1], event["data"]
    told = f"{event['subject']} {status}"
    if status == "progressed":
        return f"{told} {data.get('rows_read', 0)} rows read"
    if status in ENDS:
        counts = data.get("counts", {})
        told += f" {counts.get('rows_read', 0)} rows read, {counts.get('rows_written', 0)} written"
    error = data.get("error")
    return f"{told} {error['code']}: {error['detail']}" if error else told


async def follow(url, run_id):
    """The status in which the run ended; None if the queue was taken away."""
    connection = await aio_pika.connect_robust(url)  # connects again, and to the same queue, when the broker restarts
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        exchange = await channel.get_exchange(EXCHANGE)
        # A queue of our own that outlives us: what happens while we are away waits in it, an hour for an example.
        arguments = {"x-queue-type": "quorum", "x-expires": 3_600_000}
        queue = await channel.declare_queue(QUEUE, durable=True, arguments=arguments)
        await queue.bind(exchange, routing_key="run.#")
        print("waiting for runs", flush=True)
        seen = Seen()
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():  # acknowledged when the work is done, not before
                    event = event_of(message)
                    if not seen.is_news(event):
                        continue
                    print(line_of(event), flush=True)
                status = event["type"].split(".")[1]
                if status in ENDS and run_id in (None, event["subject"]):
                    return status
    return None


async def main():
    url = os.environ.get("AMQP_URL")
    if not url:
        sys.exit("Set AMQP_URL, such as amqp://user:password@localhost:5672/")
    wait_seconds = float(os.environ.get("WAIT_SECONDS", "300"))
    try:
        async with asyncio.timeout(wait_seconds):
            status = await follow(url, os.environ.get("RUN_ID"))
    except TimeoutError:
        sys.exit(f"no run ended within {wait_seconds:g} seconds")
    sys.exit(0 if status == "succeeded" else 1)


if __name__ == "__main__":
    asyncio.run(main())
