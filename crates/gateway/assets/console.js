// The console: a chat with a model of this endpoint, and what the engine does meanwhile.
"use strict";

const METRICS_MS = 2000;
const TOP = 5;
const STORE = "shoal-console";
const $ = (id) => document.getElementById(id);

let models = [];
let turns = [];
let running = null;
let before = null;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function button(text, act) {
  const made = element("button", text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

function headers() {
  const key = $("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function refuse(response) {
  const body = await response.json().catch(() => null);
  throw new Error(body?.error?.message ?? `status ${response.status}`);
}

// --- conversation ---

function keep() {
  try {
    sessionStorage.setItem(STORE, JSON.stringify(turns));
  } catch {
    // Without storage a reload starts anew.
  }
}

function restore() {
  try {
    turns = JSON.parse(sessionStorage.getItem(STORE)) ?? [];
  } catch {
    turns = [];
  }
}

function show() {
  const hadFocus = document.activeElement !== document.body;
  $("turns").replaceChildren(...turns.map(turnElement));
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  // Whoever uses the keyboard goes on where what had the focus was.
  const focused = document.activeElement;
  if (hadFocus && (focused === document.body || focused.hidden)) {
    $(running ? "stop" : "prompt").focus();
  }
}

function turnElement(turn, index) {
  const item = element("li", undefined, turn.role);
  const text = element("p", undefined, "text");
  fill(text, turn);
  item.append(text);
  const acts = element("div", undefined, "acts");
  if (running === null) {
    if (turn.role === "user") acts.append(button("Edit", () => edit(index)));
    const isLast = index === turns.length - 1;
    if (turn.role === "assistant" && isLast) acts.append(button("Regenerate", regenerate));
    // What was refused has no answer that could be made anew.
    if (turn.role === "user" && isLast) acts.append(button("Send again", answer));
  }
  if (turn.note) acts.append(element("span", turn.note, "note"));
  item.append(acts);
  return item;
}

// Adds what is not there yet, so that long answers cost no more per token than short ones.
function fill(place, turn) {
  if ($("tokens").checked && turn.tokens?.length) {
    place.append(...turn.tokens.slice(place.shown ?? 0).flatMap(tokenElements));
    place.shown = turn.tokens.length;
  } else if (place.firstChild) {
    place.firstChild.appendData(turn.text.slice(place.firstChild.length));
  } else {
    place.append(turn.text);
  }
}

// A button breaks no line, so line breaks stand behind it.
function tokenElements(token) {
  const part = Math.exp(token.logprob);
  const made = button(token.token, () => alternatives(token, made));
  made.className = part < 0.5 ? "token unsure" : "token";
  made.title = percent(part);
  return [made, ...[...token.token.matchAll("\n")].map(() => element("br"))];
}

function percent(part) {
  return `${(part * 100).toFixed(1)} %`;
}

function alternatives(token, asked) {
  const table = element("table");
  const head = element("tr");
  head.append(element("th", "token"), element("th", "probability"));
  table.append(head);
  for (const other of token.top_logprobs) {
    const row = element("tr");
    row.append(element("td", JSON.stringify(other.token)));
    row.append(element("td", percent(Math.exp(other.logprob))));
    table.append(row);
  }
  const close = button("Close", () => {
    $("alternatives").hidden = true;
    asked.focus();
  });
  $("alternatives").replaceChildren(table, close);
  $("alternatives").hidden = false;
  close.focus();
  asked.scrollIntoView({ block: "nearest" });
}

function edit(index) {
  $("prompt").value = turns[index].text;
  turns = turns.slice(0, index);
  keep();
  show();
  $("prompt").focus();
}

function regenerate() {
  turns.pop();
  answer();
}

// --- asking ---

// What the chosen model can do is known once it is loaded.
async function chosen() {
  const id = $("model").value;
  if (models.some((model) => model.id === id && !model.loaded)) {
    await post("/tokenize", { model: id, prompt: "a" });
    await loadModels();
  }
  return models.find((model) => model.id === id);
}

function body(model, told) {
  const asked = {
    model: $("model").value,
    temperature: Number($("temperature").value),
    max_tokens: Number($("limit").value),
    stream: true,
    stream_options: { include_usage: true },
  };
  if ($("seed").value !== "") asked.seed = Math.trunc(Number($("seed").value));
  if (model?.chat === false) {
    const prompt = told.map((turn) => turn.text).join("");
    return ["/v1/completions", { ...asked, prompt, logprobs: TOP }];
  }
  const messages = told.map(({ role, text }) => ({ role, content: text }));
  return ["/v1/chat/completions", { ...asked, messages, logprobs: true, top_logprobs: TOP }];
}

async function post(path, asked) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers() },
    body: JSON.stringify(asked),
    signal: running.signal,
  });
  if (!response.ok) await refuse(response);
  return response;
}

// How many tokens an answer may have: what the conversation leaves of the model's context.
async function room({ model, prompt, messages }) {
  const asked = messages ? { model, messages } : { model, prompt };
  const { count, max_model_len: limit } = await (await post("/tokenize", asked)).json();
  if (count < limit) return limit - count;
  throw new Error(`The conversation has ${count} tokens and the model's context holds ${limit}: `
    + "edit a message, or start a new chat.");
}

async function answer() {
  const told = [...turns];
  const turn = { role: "assistant", text: "", tokens: [], note: "" };
  turns.push(turn);
  running = new AbortController();
  problem("");
  show();
  try {
    const [path, asked] = body(await chosen(), told);
    asked.max_tokens = Math.min(asked.max_tokens, await room(asked));
    const response = await post(path, asked);
    await read(response.body, turn);
  } catch (error) {
    if (error.name === "AbortError") turn.note = "stopped";
    else problem(error.message);
  }
  if (!turn.text && !turn.note) turns.pop();
  running = null;
  keep();
  show();
  lookAtSwarm();
}

async function read(stream, turn) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  const begun = performance.now();
  let rest = "";
  let done = false;
  let isFirst = true;
  for (;;) {
    const piece = await reader.read();
    if (piece.done) break;
    if (isFirst) lookAtSwarm();
    isFirst = false;
    const lines = (rest + piece.value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      const data = line.slice(6);
      if (data === "[DONE]") done = true;
      else take(JSON.parse(data), turn, begun);
    }
    paint(turn);
  }
  if (!done) throw new Error("the answer was cut");
}

function take(chunk, turn, begun) {
  if (chunk.error) throw new Error(chunk.error.message);
  if (chunk.usage) {
    const seconds = (performance.now() - begun) / 1000;
    const { completion_tokens: count, prompt_tokens_details: details } = chunk.usage;
    const rate = (count / Math.max(seconds, 0.001)).toFixed(1);
    turn.note += ` ${count} tokens, ${rate} tokens/s, ${details.cached_tokens} cached`;
  }
  const choice = chunk.choices[0];
  if (!choice) return;
  turn.text += choice.delta?.content ?? choice.text ?? "";
  turn.tokens.push(...scored(choice.logprobs));
  if (choice.finish_reason) turn.note = `${choice.finish_reason};`;
}

// Both endpoints' log-probabilities in one form.
function scored(logprobs) {
  if (!logprobs) return [];
  if (logprobs.content) return logprobs.content;
  return logprobs.tokens.map((token, index) => ({
    token,
    logprob: logprobs.token_logprobs[index],
    top_logprobs: Object.entries(logprobs.top_logprobs[index])
      .map(([other, logprob]) => ({ token: other, logprob }))
      .sort((a, b) => b.logprob - a.logprob),
  }));
}

function paint(turn) {
  const place = $("turns").lastElementChild?.querySelector(".text");
  if (!place) return;
  const main = document.querySelector("main");
  const isAtEnd = main.scrollHeight - main.scrollTop - main.clientHeight < 40;
  fill(place, turn);
  if (isAtEnd) main.scrollTop = main.scrollHeight;
}

// --- the engine ---

function sums(text) {
  const found = {};
  for (const line of text.split("\n")) {
    const match = /^(vllm:\w+?)(?:\{[^}]*\})? ([-+.\de]+)$/.exec(line);
    if (match) found[match[1]] = (found[match[1]] ?? 0) + Number(match[2]);
  }
  return found;
}

async function look() {
  if (document.hidden) return;
  const response = await fetch("/metrics", { headers: headers() }).catch(() => null);
  if (!response?.ok) return;
  const now = { at: performance.now(), ...sums(await response.text()) };
  const tokens = now["vllm:generation_tokens_total"] ?? 0;
  if (before) {
    const since = tokens - (before["vllm:generation_tokens_total"] ?? 0);
    $("rate").textContent = (since * 1000 / (now.at - before.at)).toFixed(1);
  }
  before = now;
  $("running").textContent = now["vllm:num_requests_running"] ?? 0;
  $("waiting").textContent = now["vllm:num_requests_waiting"] ?? 0;
  $("kv").textContent = percent((now["vllm:kv_cache_usage_perc"] ?? 0) / Math.max(models.length, 1));
  const queries = now["vllm:prefix_cache_queries_total"] ?? 0;
  const hits = now["vllm:prefix_cache_hits_total"] ?? 0;
  $("hits").textContent = queries ? percent(hits / queries) : "–";
}

// --- the swarm ---

const BOX = { width: 132, height: 58, gap: 64 };

function drawing(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const time = (ms) => (typeof ms === "number" ? `${ms < 10 ? ms.toFixed(2) : ms.toFixed(0)} ms` : "");

// One node: who, which layers, how long a row takes there.
function box(x, node, lines, state) {
  const group = drawing("g", { transform: `translate(${x} 20)`, class: state });
  group.append(drawing("title", {}, node));
  group.append(drawing("rect", { width: BOX.width, height: BOX.height, rx: 6 }));
  [node.slice(0, 12), ...lines].forEach((line, index) => {
    const look = index ? "soft" : "";
    group.append(drawing("text", { x: 8, y: 16 + 16 * index, class: look }, line));
  });
  return group;
}

// The way of a request: from this node through the stages and back.
function ringDrawing(ring, map) {
  const count = ring.stages.length + 1;
  const step = BOX.width + BOX.gap;
  const width = count * step - BOX.gap;
  const label = `${ring.model}: this node, then ${ring.stages
    .map((stage) => `${stage.node.slice(0, 12)} with layers ${stage.first} to ${stage.last}`)
    .join(", then ")}, and back`;
  const svg = drawing("svg", { width, height: 112, role: "img", "aria-label": label });
  const flows = ring.requests > 0 ? "flows" : "";
  const links = drawing("g", { class: flows });
  svg.append(links, box(0, map.node, ["this node", "tokens, logits"], "used"));
  ring.stages.forEach((stage, index) => {
    const x = (index + 1) * step;
    const member = map.members.find((other) => other.node === stage.node);
    const trip = time(stage.link_ms) || time(member?.round_trip_ms && member.round_trip_ms / 2);
    links.append(drawing("path", { d: `M${x - BOX.gap} 49H${x - 6}l-5 -4m5 4l-5 4` }));
    links.append(drawing("text", { x: x - BOX.gap + 6, y: 42, class: "soft" }, trip));
    const layers = `layers ${stage.first}–${stage.last}`;
    const more = stage.shadow ? `shadow ${stage.shadow.slice(0, 8)}` : time(stage.compute_ms);
    svg.append(box(x, stage.node, [layers, more], member?.is_connected ? "used" : "gone"));
  });
  const middle = BOX.width / 2;
  links.append(drawing("path", {
    d: `M${width - middle} 78V98H${middle}V84l-4 5m4 -5l4 5`,
  }));
  return svg;
}

function memberLine(member, map) {
  const parts = member.offers.map((offer) => `${offer.model} ${offer.first}–${offer.last}`);
  const what = member.node === map.node ? "this node" : parts.join(", ") || "offers no layers";
  const reach = member.is_connected ? time(member.round_trip_ms) : "not connected";
  const way = member.is_relayed ? "by a relay" : "";
  return element("li", [member.node.slice(0, 12), what, reach, way].filter(Boolean).join(" · "));
}

async function lookAtSwarm() {
  if (document.hidden) return;
  const response = await fetch("/swarm", { headers: headers() }).catch(() => null);
  const map = response?.ok ? (await response.json()).swarm : null;
  $("swarm").hidden = map === null;
  if (map === null) return;
  const there = map.members.filter((member) => member.is_connected).length;
  const requests = map.rings.reduce((sum, ring) => sum + ring.requests, 0);
  $("swarm-summary").textContent = `${there} of ${map.members.length} nodes, `
    + `${requests} requests on the way`;
  if (!$("swarm").open) return;
  const shown = map.rings.flatMap((ring) => {
    const speed = ring.expected_tokens_per_s;
    const facts = [
      ring.model,
      speed ? `${speed.toFixed(1)} tokens/s expected` : "",
      `${ring.requests} requests`,
      ring.replaced ? `${ring.replaced} stages replaced` : "",
    ];
    const parts = [element("h2", facts.filter(Boolean).join(" · "))];
    if (ring.stages.length) parts.push(ringDrawing(ring, map));
    else parts.push(element("p", "no way is in use; a request finds one", "note"));
    if (ring.trouble) parts.push(element("p", ring.trouble, "trouble"));
    return parts;
  });
  const members = element("ul");
  members.append(...map.members.map((member) => memberLine(member, map)));
  $("map").replaceChildren(...shown, element("h2", "Nodes"), members);
}

async function loadModels() {
  try {
    const response = await fetch("/v1/models", { headers: headers() });
    if (!response.ok) await refuse(response);
    models = (await response.json()).data;
    const id = $("model").value;
    $("model").replaceChildren(...models.map((model) => new Option(model.id, model.id)));
    if (models.some((model) => model.id === id)) $("model").value = id;
    problem("");
  } catch (error) {
    problem(error.message);
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("prompt").value;
  if (running !== null || !text.trim()) return;
  turns.push({ role: "user", text });
  $("prompt").value = "";
  answer();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("form").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
$("stop").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", () => {
  running?.abort();
  turns = [];
  keep();
  show();
  $("prompt").focus();
});
$("tokens").addEventListener("change", show);
$("key").addEventListener("change", loadModels);

restore();
show();
loadModels();
look();
setInterval(look, METRICS_MS);
$("swarm").addEventListener("toggle", lookAtSwarm);
lookAtSwarm();
setInterval(lookAtSwarm, METRICS_MS);
