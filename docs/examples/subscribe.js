// Follows runs from outside the platform: prints the status of each until one has ended.
//
// Needs Node 20 and amqplib. AMQP_URL names the broker; RUN_ID one run to wait for (else the first that ends);
// WAIT_SECONDS how long (else 300). Ends with 0 when the run succeeded, else with 1.
"use strict";

const amqp = require("amqplib");

const EXCHANGE = "dataaggregator.events";
const QUEUE = "example-subscriber-node";
const ENDS = new Set(["succeeded", "failed", "cancelled", "timed_out", "skipped"]);
const REMEMBERED = 10_000;

// Events come at least once, so each id counts once. Where an event changes something, keep its id in the same
// database and transaction as the change: then it is applied exactly once, also after a restart.
const seen = new Set();
const last = new Map();

// False for what was here before, and for what comes after a later event of the same source and subject.
function isNews(event) {
  if (seen.has(event.id)) return false;
  seen.add(event.id);
  if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
  if (event.sequence === 0) return true; // progress has no place in the order: it may be lost
  const place = `${event.source} ${event.subject}`;
  if (event.sequence <= (last.get(place) ?? 0)) return false;
  last.set(place, event.sequence);
  return true;
}

// A CloudEvent in AMQP binary mode: its attributes are headers, its data is the body.
function eventOf(message) {
  const prefix = "cloudEvents_";
  const attributes = Object.entries(message.properties.headers)
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, value]) => [name.slice(prefix.length), value]);
  return { ...Object.fromEntries(attributes), data: JSON.parse(message.content.toString("utf8")) };
}

const statusOf = (event) => event.type.split(".")[1];

// run.succeeded.v1 → succeeded, and what belongs to it. Fields that are not known here are passed over.
function lineOf(event) {
  const { data } = event;
  const status = statusOf(event);
  let told = `${event.subject} ${status}`;
  if (status === "progressed") return `${told} ${data.rows_read ?? 0} rows read`;
  if (ENDS.has(status)) told += ` ${data.counts?.rows_read ?? 0} rows read, ${data.counts?.rows_written ?? 0} written`;
  return data.error ? `${told} ${data.error.code}: ${data.error.detail}` : told;
}

// The status of the end of the run. amqplib does not connect again by itself: when the broker goes, so do we, and
// whatever starts us anew finds in the queue what has happened since.
async function follow(url, runId) {
  const connection = await amqp.connect(url);
  try {
    const channel = await connection.createChannel();
    await channel.prefetch(100);
    await channel.checkExchange(EXCHANGE);
    // A queue of our own that outlives us: what happens while we are away waits in it, an hour for an example.
    await channel.assertQueue(QUEUE, {
      durable: true,
      arguments: { "x-queue-type": "quorum", "x-expires": 3_600_000 },
    });
    await channel.bindQueue(QUEUE, EXCHANGE, "run.#");
    const ended = new Promise((resolve, reject) => {
      connection.on("error", reject);
      channel.consume(QUEUE, (message) => {
        if (message === null) return reject(new Error("the queue was deleted"));
        const event = eventOf(message);
        const news = isNews(event);
        if (news) console.log(lineOf(event));
        channel.ack(message); // when the work is done, not before
        if (news && ENDS.has(statusOf(event)) && (!runId || runId === event.subject)) resolve(statusOf(event));
      }).catch(reject);
    });
    console.log("waiting for runs");
    const status = await ended;
    await channel.close(); // sends what was acknowledged
    return status;
  } finally {
    await connection.close();
  }
}

async function main() {
  const url = process.env.AMQP_URL;
  if (!url) {
    console.error("Set AMQP_URL, such as amqp://user:password@localhost:5672/");
    return 1;
  }
  const seconds = Number(process.env.WAIT_SECONDS ?? 300);
  const late = new Promise((resolve) => setTimeout(resolve, seconds * 1000, null).unref());
  const status = await Promise.race([follow(url, process.env.RUN_ID), late]);
  if (status === null) console.error(`no run ended within ${seconds} seconds`);
  return status === "succeeded" ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error) => {
    console.error(error.message);
    process.exit(1);
  },
);
