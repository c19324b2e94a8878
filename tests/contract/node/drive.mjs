// The stock client of npm against a running API: OPENAI_BASE_URL and OPENAI_API_KEY, the base's name as METEOR_BASE, a JSONL file as
// METEOR_ROWS. Prints one line of JSON: what was found. Whatever the client throws ends it with exit code 1.

import assert from "node:assert/strict";
import { createReadStream } from "node:fs";

import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = process.env.METEOR_BASE;
const jobs = client.fineTuning.jobs;

async function refused(kind, status, code, work) {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof kind, `${error}`);
    assert.deepEqual([error.status, error.code], [status, code]);
    return true;
  });
}

async function files() {
  const made = await client.files.create({ file: createReadStream(process.env.METEOR_ROWS), purpose: "fine-tune" });
  assert.equal(made.status, "processed");
  assert.deepEqual(await client.files.retrieve(made.id), made);
  assert.ok((await (await client.files.content(made.id)).text()).startsWith('{"question"'));
  return made.id;
}

async function fineTuning(file) {
  const made = await jobs.create({
    model,
    training_file: file,
    method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 2 } } },
    metadata: { of: "node" },
  });
  assert.deepEqual([made.object, made.status, made.hyperparameters.n_epochs], ["fine_tuning.job", "queued", 2]);
  assert.equal((await jobs.pause(made.id)).status, "paused");
  assert.equal((await jobs.resume(made.id)).status, "queued");
  const ids = [made.id, (await jobs.create({ model, training_file: file, metadata: { of: "node" } })).id];
  const listed = [];
  for await (const job of jobs.list({ limit: 1, metadata: { of: "node" } })) listed.push(job.id); // two pages
  assert.deepEqual(listed, ids.toReversed());
  const messages = [];
  for await (const event of jobs.listEvents(made.id, { limit: 2 })) messages.push(event.message);
  assert.equal(messages.at(-1), "job created and queued");
  assert.deepEqual((await jobs.checkpoints.list(made.id)).data, []);
  await refused(OpenAI.ConflictError, 409, "file_in_use", () => client.files.delete(file));
  for (const id of ids) assert.equal((await jobs.cancel(id)).status, "cancelled");
  await refused(OpenAI.ConflictError, 409, "job_finished", () => jobs.cancel(made.id));
  await refused(OpenAI.NotFoundError, 404, "job_not_found", () => jobs.retrieve("ftjob-nobody"));
  await refused(OpenAI.BadRequestError, 400, "invalid_value", () =>
    jobs.create({ model, training_file: file, method: { type: "reinforcement" } }), // without a grader
  );
  assert.equal((await client.files.delete(file)).deleted, true);
  return listed.length;
}

async function models() {
  const names = [];
  for await (const found of client.models.list()) names.push(found.id);
  assert.ok(names.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
  return names.length;
}

async function chat() {
  const messages = [{ role: "user", content: "hello" }];
  const whole = await client.chat.completions.create({ model, messages });
  assert.deepEqual([whole.model, whole.choices[0].message.content], [model, "hello"]);
  let text = "";
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  assert.equal(text, "Hello é");
  const nobody = new OpenAI({ apiKey: "wrong", maxRetries: 0 });
  await refused(OpenAI.AuthenticationError, 401, "invalid_api_key", () => nobody.models.list());
  return text;
}

const found = { jobs: await fineTuning(await files()), models: await models(), chat: await chat() };
console.log(JSON.stringify(found));
