// openai-node: OpenAI's own client for JavaScript.

import assert from "node:assert/strict";
import { createReadStream } from "node:fs";

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { MODEL, QUESTION, ROWS, SHORT, ability, run } from "./abilities.mjs";

const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: QUESTION }];
const City = z.object({ city: z.enum(["Rome", "Oslo"]), large: z.boolean() });
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Rome", "Oslo"] } },
  required: ["city"],
  additionalProperties: false,
};
const weather = { type: "function", function: { name: "weather", description: "Of a city.", parameters } };
const inCity = (text) => assert.ok(["Rome", "Oslo"].includes(JSON.parse(text).city), text);

ability("models", async () => {
  const names = [];
  for await (const found of client.models.list()) names.push(found.id);
  assert.ok(names.includes(MODEL));
});

ability("chat", async () => {
  const answer = await client.chat.completions.create({ model: MODEL, messages, max_completion_tokens: SHORT });
  assert.ok(answer.choices[0].message.content);
});

ability("stream", async () => {
  const stream = client.chat.completions.stream({ model: MODEL, messages, max_tokens: SHORT });
  assert.ok(await stream.finalContent());
});

ability("schema", async () => {
  const answer = await client.chat.completions.parse({
    model: MODEL,
    messages,
    response_format: zodResponseFormat(City, "city"),
  });
  assert.ok(answer.choices[0].message.parsed.city);
});

ability("tools: auto", async () => {
  const answer = await client.chat.completions.create({ model: MODEL, messages, tools: [weather], max_tokens: SHORT });
  const { content, tool_calls } = answer.choices[0].message;
  assert.ok(content || tool_calls);
});

ability("tools: required", async () => {
  const asked = { model: MODEL, messages, tools: [weather], tool_choice: "required" };
  const whole = await client.chat.completions.create(asked);
  inCity(whole.choices[0].message.tool_calls[0].function.arguments);
  const streamed = await client.chat.completions.stream(asked).finalMessage();
  inCity(streamed.tool_calls[0].function.arguments);
});

ability("tools: named", async () => {
  const tool_choice = { type: "function", function: { name: "weather" } };
  const answer = await client.chat.completions.create({ model: MODEL, messages, tools: [weather], tool_choice });
  inCity(answer.choices[0].message.tool_calls[0].function.arguments);
});

ability("responses", async () => {
  const input = QUESTION;
  assert.ok((await client.responses.create({ model: MODEL, input, max_output_tokens: SHORT })).output_text);
  const stream = client.responses.stream({ model: MODEL, input, max_output_tokens: SHORT });
  assert.ok((await stream.finalResponse()).output_text);
  const parsed = await client.responses.parse({ model: MODEL, input, text: { format: zodTextFormat(City, "city") } });
  assert.ok(parsed.output_parsed.city);
  const tools = [{ type: "function", name: "weather", parameters, strict: true }];
  const called = await client.responses.create({ model: MODEL, input, tools, tool_choice: "required" });
  inCity(called.output[0].arguments);
});

const upload = () => client.files.create({ file: createReadStream(ROWS), purpose: "fine-tune" });

ability("files", async () => {
  const made = await upload();
  assert.equal(made.status, "processed");
  const ids = [];
  for await (const file of client.files.list({ purpose: "fine-tune", order: "desc", limit: 5 })) ids.push(file.id);
  assert.ok(ids.includes(made.id));
  assert.ok((await (await client.files.content(made.id)).text()).startsWith("{"));
  assert.ok((await client.files.delete(made.id)).deleted);
  const kept = await client.files.create({
    file: await OpenAI.toFile(Buffer.from("x"), "a.txt"),
    purpose: "user_data",
    expires_after: { anchor: "created_at", seconds: 3600 },
  });
  assert.equal(kept.expires_at, kept.created_at + 3600);
});

ability("fine-tuning", async () => {
  const jobs = client.fineTuning.jobs;
  const made = await jobs.create({ model: MODEL, training_file: (await upload()).id, metadata: { of: "node" } });
  try {
    const messages = [];
    for await (const event of jobs.listEvents(made.id)) messages.push(event.message);
    assert.equal(messages.at(-1), "job created and queued");
    assert.equal((await jobs.retrieve(made.id)).id, made.id);
  } finally {
    await jobs.cancel(made.id);
  }
});

ability("errors", async () => {
  await assert.rejects(client.models.retrieve("nobody"), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ model: MODEL, messages: [] }), OpenAI.BadRequestError);
  await assert.rejects(client.embeddings.create({ model: MODEL, input: "x" }), OpenAI.NotFoundError);
});

await run();
