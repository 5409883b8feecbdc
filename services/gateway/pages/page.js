"use strict";
// The access token lives in this variable only: nothing is stored, a reload forgets it.
let token = null;
let document_ = null;

const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in node) node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};
const byId = (id) => document.getElementById(id);
const resolve = (item) => item && item.$ref
  ? resolve(item.$ref.slice(2).split("/").reduce((at, part) => at[part.replace(/~1/g, "/")], document_)) : item;

// A small example of a schema, deep enough to begin with.
function example(schema, depth = 0) {
  schema = resolve(schema) || {};
  if (depth > 5) return null;
  if ("default" in schema) return schema.default;
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  for (const key of ["anyOf", "oneOf", "allOf"]) if (schema[key]) return example(schema[key][0], depth + 1);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (type === "object" || schema.properties) {
    const made = {};
    const required = schema.required || Object.keys(schema.properties || {});
    for (const [name, one] of Object.entries(schema.properties || {})) {
      if (required.includes(name)) made[name] = example(one, depth + 1);
    }
    return made;
  }
  return { array: [], integer: 0, number: 0, boolean: false, string: "", null: null }[type] ?? null;
}

function field(parameter) {
  const input = make("input", { name: parameter.name, required: Boolean(parameter.required) });
  input.dataset.place = parameter.in;
  return make("label", { className: "field" }, `${parameter.name} (${parameter.in}) `, input,
    make("span", { className: "hint" }, ` ${parameter.description || ""}`));
}

function operation(path, method, told) {
  const out = make("pre", { hidden: true });
  const form = make("form", {}, make("p", { className: "hint" }, told.description || ""));
  for (const one of told.parameters || []) {
    const parameter = resolve(one);
    if (!["X-Workspace", "X-Request-ID", "traceparent"].includes(parameter.name)) form.append(field(parameter));
  }
  const content = told.requestBody && resolve(told.requestBody).content;
  let body = null;
  let kind = null;
  if (content) {
    kind = Object.keys(content)[0];
    body = make("textarea", { value: JSON.stringify(example(content[kind].schema), null, 2), spellcheck: false });
    form.append(make("label", { className: "field" }, `Body (${kind})`, body));
  }
  form.append(make("button", {}, "Send"), out);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(path, method, form, body && { text: body.value, kind }, out);
  });
  const summary = make("summary", {}, make("span", { className: `method ${method}` }, method.toUpperCase()),
    make("code", {}, path), told.summary || "");
  const details = make("details", {}, summary);
  details.dataset.words = `${method} ${path} ${told.summary || ""}`.toLowerCase();
  details.addEventListener("toggle", () => { if (details.open) details.append(form); }, { once: true });
  return details;
}

async function send(path, method, form, body, out) {
  const headers = {};
  const query = new URLSearchParams();
  let target = path;
  for (const input of form.querySelectorAll("input")) {
    if (input.value === "") continue;
    if (input.dataset.place === "path") target = target.replace(`{${input.name}}`, encodeURIComponent(input.value));
    else if (input.dataset.place === "query") query.append(input.name, input.value);
    else headers[input.name] = input.value;
  }
  if (token) headers.Authorization = `Bearer ${token}`;
  if (byId("workspace").value) headers["X-Workspace"] = byId("workspace").value;
  if (body) headers["Content-Type"] = body.kind;
  out.hidden = false;
  out.textContent = "…";
  try {
    const answer = await fetch(target + (query.size ? `?${query}` : ""),
      { method: method.toUpperCase(), headers, body: body ? body.text : undefined });
    await show(answer, out);
  } catch (error) {
    out.textContent = `No answer: ${error.message}`;
  }
}

async function show(answer, out) {
  const told = ["content-type", "etag", "location", "retry-after", "ratelimit-remaining", "x-request-id"]
    .filter((name) => answer.headers.has(name)).map((name) => `${name}: ${answer.headers.get(name)}`);
  const head = `${answer.status} ${answer.statusText}\n${told.join("\n")}\n\n`;
  out.textContent = head;
  if ((answer.headers.get("content-type") || "").startsWith("text/event-stream")) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done && out.isConnected; part = await reader.read()) {
      out.textContent += part.value;
    }
    return;
  }
  const text = await answer.text();
  try { out.textContent = head + JSON.stringify(JSON.parse(text), null, 2); } catch { out.textContent = head + text; }
}

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = Object.fromEntries(new FormData(event.target));
  const answer = await fetch("/api/auth/login",
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(given) });
  const told = await answer.json();
  token = answer.ok ? told.access_token : null;
  byId("who").textContent = answer.ok ? `Logged in as ${given.email}.` : told.detail;
  if (answer.ok) event.target.elements.password.value = "";
});

byId("find").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/);
  for (const details of document.querySelectorAll("details")) {
    details.hidden = !words.every((word) => details.dataset.words.includes(word));
  }
});

(async () => {
  const answer = await fetch("/api/openapi.json");
  document_ = await answer.json();
  byId("version").textContent = `Version ${document_.info.version}`;
  const groups = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, told] of Object.entries(methods)) {
      const tag = (told.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(path, method, told));
    }
  }
  for (const tag of [...groups.keys()].sort()) {
    byId("operations").append(make("h2", {}, tag), ...groups.get(tag));
  }
})().catch((error) => { byId("version").textContent = `The document cannot be read: ${error.message}`; });
