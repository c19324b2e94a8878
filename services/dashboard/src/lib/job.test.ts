import { describe, expect, test } from 'vitest'
import { evaluationOf, may, moneySpent, parseKey, settingsOf, stagesOf, stepWords, timeLeft, whereInPhase, type Job, type Step } from './job'

function job(changes: Record<string, unknown> = {}, own: Record<string, unknown> = {}): Job {
  const distillation = { domain: 'sums', phases: ['distill', 'iterate', 'evolve'], iterate: { rounds: 3 }, evolve: { turns: 1 }, progress: {}, usage: {}, budget: {}, ...own }
  return { id: 'ftjob-1', status: 'running', created_at: 1000, finished_at: null, error: null, distillation, ...changes } as unknown as Job
}

function step(key: string, state = 'succeeded', started_at = 10, finished_at: number | null = 20): Step {
  return { key, state, started_at, finished_at } as unknown as Step
}

test.each([
  ['distill/train', { phase: 'distill', round: null, role: 'train', batch: null }],
  ['iterate/1/try-2/answers/0', { phase: 'iterate', round: 1, role: 'try-2/answers', batch: 0 }],
  ['pilot/guided/0', { phase: 'pilot', round: null, role: 'guided', batch: 0 }],
  ['evaluate/dev/iterate-1/answers', { phase: 'evaluate', round: null, role: 'dev/iterate-1/answers', batch: null }],
  ['evolve', { phase: 'evolve', round: null, role: '', batch: null }],
])('the key %s has its parts', (text, parts) => expect(parseKey(text)).toEqual(parts))

test('a step is named in words', () => {
  expect(['iterate/2/try-1/answers/0', 'distill/train', 'evolve'].map(stepWords)).toEqual(['iterate, round 2: try 1, answers, batch 1', 'distill: train', 'evolve'])
})

describe('time left', () => {
  const progress = { eta_seconds: 750, eta_low_seconds: 740, eta_high_seconds: 760 }
  test.each([
    [job({}, { progress }), 'about 13 minutes left'],
    [job({}, { progress: { ...progress, eta_high_seconds: 3000 } }), '12 to 50 minutes left'],
    [job({ status: 'paused' }, { progress }), 'waits until it is resumed'],
    [job({ status: 'queued' }, { queue: { position: 2, starts_in_seconds: 30 } }), 'number 2 in the queue, starts in less than a minute'],
    [job({ status: 'succeeded', finished_at: 8200 }), 'took 2 h'],
    [job(), 'no estimate yet'],
  ])('%#', (given, words) => expect(timeLeft(given)).toBe(words))
})

test('stages follow the plan and tell where the job is', () => {
  const steps = [step('pilot/guided/0'), step('distill/train', 'succeeded', 20, 50), step('iterate/1/try-1/answers/0'), step('iterate/2/try-1/answers/0', 'running', 60, null)]
  const stages = stagesOf(job({}, { phase: 'iterate' }), steps)
  expect(stages.map(({ name, state }) => [name, state])).toEqual([['pilot', 'done'], ['distill', 'done'], ['iterate', 'now'], ['evolve', 'waiting'], ['evaluate', 'waiting']])
  expect(stages[1]).toMatchObject({ steps: 1, done: 1, from: 20, to: 50, parts: [] })
  expect(stages[2]?.parts.map(({ name, state, tries }) => [name, state, tries])).toEqual([['1', 'done', ['try-1']], ['2', 'now', ['try-1']], ['3', 'waiting', []]])
  expect(whereInPhase(stages[2])).toBe('round 2 of 3')
})

test('phases are measured by steps of the last stage before it is reached', () => {
  const stages = stagesOf(job({}, { phase: 'iterate' }), [step('distill/train'), step('evaluate/dev/distill/answers/0')])
  expect(stages.map(({ state }) => state)).toEqual(['done', 'done', 'now', 'waiting', 'begun'])
})

test('a failed job tells where it stopped, even without steps', () => {
  const failed = stagesOf(job({ status: 'failed' }, { failure: { phase: 'distill' } }), [])
  expect(failed.map(({ state }) => state)).toEqual(['unused', 'stopped', 'unused', 'unused', 'unused'])
})

test('a failed job tells where it stopped', () => {
  const stages = stagesOf(job({ status: 'failed' }), [step('pilot/guided/0'), step('distill/answers/0', 'failed')])
  expect(stages.map(({ state }) => state)).toEqual(['done', 'stopped', 'unused', 'unused', 'unused'])
  expect(stages[1]?.failed).toBe(1)
})

test('a job can be steered where the API does it', () => {
  expect((['queued', 'paused', 'succeeded'] as const).map((status) => may(job({ status }), 'pause'))).toEqual([true, false, false])
  expect(may(job({ status: 'paused' }), 'resume')).toBe(true)
})

test('money is told with its limit, and a gain once there is one', () => {
  expect(moneySpent(job({}, { usage: { usd_spent: 1.5 }, budget: { max_usd: 5 } }))).toBe('$1.50 of $5.00')
  expect(evaluationOf(job())).toBeNull()
  expect(evaluationOf(job({}, { evaluation_result: { delta: 0.1, ci95: [0, 0.2] } }))?.delta).toBe(0.1)
})

test('the settings that decide are told as texts, and only those of the phases that run', () => {
  const own = { phases: ['iterate'], primary_metric: { type: 'number' }, guidance: 'auto', iterate: { rounds: 2, tries: 1, strategy: 'critique' }, adapter: { method: 'lora', rank: 16, alpha: 32 }, budget: { max_calls: 1 } }
  const told = Object.fromEntries(settingsOf(job({ model: 'tiny', seed: 0 }, own)))
  expect(told).toMatchObject({ Student: 'tiny', Grader: 'number', Iterate: '2 rounds, 1 try, critique', Training: 'lora, rank 16, alpha 32', Budget: '1 call', Seed: '0' })
  expect(Object.keys(told)).not.toContain('Guidance')
})
