// Holds an AsyncAPI document against the specification: prints every fault and ends with 1 if there is an error.
import { readFileSync } from "node:fs";
import asyncapi from "@asyncapi/parser";

const { document, diagnostics } = await new asyncapi.Parser().parse(readFileSync(process.argv[2], "utf8"));
const faults = diagnostics.filter((fault) => fault.severity <= 1);
for (const fault of faults) {
  console.error(`${process.argv[2]}: ${fault.path.join(".")}: ${fault.message}`);
}
process.exitCode = document && faults.every((fault) => fault.severity > 0) ? 0 : 1;
