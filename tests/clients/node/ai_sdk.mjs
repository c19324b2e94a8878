// The AI SDK, with its provider for APIs like OpenAI's.

import assert from "node:assert/strict";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import * as ai from "ai";
import { z } from "zod";

import { KEY, MODEL, QUESTION, SHORT, URL_, ability, run } from "./abilities.mjs";

const provider = createOpenAICompatible({ name: "meteor", baseURL: URL_, apiKey: KEY, supportsStructuredOutputs: true });
const model = provider(MODEL);
const City = z.object({ city: z.enum(["Rome", "Oslo"]), large: z.boolean() });
const weather = ai.tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.enum(["Rome", "Oslo"]) }),
  execute: async ({ city }) => `It is sunny in ${city}.`,
});
const asked = { model, prompt: QUESTION, maxRetries: 0 };

ability("chat", async () => {
  assert.ok((await ai.generateText({ ...asked, maxOutputTokens: SHORT })).text);
});

ability("stream", async () => {
  let text = "";
  for await (const part of ai.streamText({ ...asked, maxOutputTokens: SHORT }).textStream) text += part;
  assert.ok(text);
});

ability("schema", async () => {
  const answer = await ai.generateText({ ...asked, output: ai.Output.object({ schema: City }) });
  assert.ok(answer.output.city);
});

ability("tools: auto", async () => {
  const stopWhen = ai.stepCountIs ? ai.stepCountIs(3) : undefined;
  const answer = await ai.generateText({ ...asked, tools: { weather }, stopWhen, maxOutputTokens: SHORT });
  assert.ok(answer.text || answer.toolCalls.length);
});

ability("tools: required", async () => {
  const answer = await ai.generateText({ ...asked, tools: { weather }, toolChoice: "required" });
  assert.equal(answer.toolCalls[0].toolName, "weather");
  const streamed = ai.streamText({ ...asked, tools: { weather }, toolChoice: "required" });
  assert.equal((await streamed.toolCalls)[0].toolName, "weather");
});

ability("tools: named", async () => {
  const toolChoice = { type: "tool", toolName: "weather" };
  const answer = await ai.generateText({ ...asked, tools: { weather }, toolChoice });
  assert.ok(["Rome", "Oslo"].includes(answer.toolCalls[0].input.city));
});

ability("errors", async () => {
  await assert.rejects(ai.generateText({ ...asked, model: provider("nobody") }), (error) => {
    assert.equal(error.statusCode, 404);
    return true;
  });
});

await run();
