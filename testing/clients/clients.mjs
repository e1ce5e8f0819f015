// OpenAI's client for Node against a running `shoal up`: node clients.mjs URL.

import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Hello" }];
const city = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};

const answer = await client.chat.completions.create({ model: "tools", messages, max_tokens: 8 });
assert.equal(typeof answer.choices[0].message.content, "string");

const stream = await client.chat.completions.create({
  model: "tools", messages, max_tokens: 8, stream: true, stream_options: { include_usage: true },
});
let usage;
for await (const chunk of stream) usage = chunk.usage ?? usage;
assert.ok(usage.completion_tokens > 0);

// The client's own loop calls the tools and sends their results back.
let calls = 0;
const runner = client.chat.completions.runTools({
  model: "tools", messages, parallel_tool_calls: false,
  tool_choice: { type: "function", function: { name: "weather" } },
  tools: [{
    type: "function",
    function: {
      name: "weather", description: "The weather", parameters: city, parse: JSON.parse,
      function: ({ city }) => {
        assert.ok(["Paris", "Rome"].includes(city));
        calls += 1;
        return "sunny";
      },
    },
  }],
});
await runner.done();
assert.ok(calls >= 1);

const events = [];
for await (const event of await client.responses.create({
  model: "tools", input: "Hello", max_output_tokens: 8, stream: true,
})) events.push(event.type);
assert.equal(events[0], "response.created");

const abort = new AbortController();
const cut = await client.chat.completions.create(
  { model: "tools", messages, stream: true }, { signal: abort.signal },
);
for await (const chunk of cut) {
  assert.ok(chunk.id);
  abort.abort();
}

await assert.rejects(
  client.chat.completions.create({ model: "none", messages }), OpenAI.NotFoundError,
);
console.log("ok node");
