// What a client is asked to do, as drive/abilities.py has it: a driver registers each ability that its client has.

export const { OPENAI_BASE_URL: URL_, OPENAI_API_KEY: KEY, METEOR_MODEL: MODEL, METEOR_ROWS: ROWS } = process.env;
export const SHORT = 40; // tokens of an answer
export const QUESTION = "How is the weather in Rome?";
const found = new Map();

export function ability(name, work) {
  found.set(name, work);
}

export async function run() {
  const said = {};
  for (const [name, work] of found) {
    try {
      await work();
      said[name] = "ok";
    } catch (error) {
      const line = /drive[^\n]*\.mjs:(\d+)/.exec(error.stack ?? "")?.[1] ?? /_(?:node|sdk)\.mjs:(\d+)/.exec(error.stack ?? "")?.[1];
      said[name] = `${error.name}: ${String(error.message).replace(/\s+/g, " ").slice(0, 600)} (line ${line ?? "?"})`;
    }
  }
  console.log(JSON.stringify(said));
}
