import { expect, test } from 'vitest'
import { chats, samples } from './metrics'
import { failedOf, findings, loads, partWords, rateWords, trafficWords, type Provider, type Readiness, type System } from './system'

const ready: Readiness = { status: 'ready', missing: [], checks: { database: true }, lost: [] }
const system: System = { object: 'system', processes: [], queues: [], jobs: {}, calls: [] }
const provider = (traffic: Partial<NonNullable<Provider['traffic']>>) =>
  ({ id: 'default', name: 'default', model: 'm', address: 'a', traffic: { breaker: 'closed', in_use: 0, limit: 8, most: 8, ...traffic } }) as Provider

test('a system in order has no finding', () => {
  expect(findings(ready, system, [provider({})])).toEqual([])
  expect(findings(undefined, undefined, undefined)).toEqual([])
})

test('what is missing stands before what is odd', () => {
  const told = findings(
    { ...ready, missing: ['queue:train', 'broker'] },
    {
      ...system,
      processes: [{ id: 'judge@a:1', object: 'process', service: 'judge', queue: 'judge', slots: 1, state: 'lost', seen_at: 1 }],
      queues: [{ id: 'train', object: 'queue', slots: 0, steps: { queued: 2 } }, { id: 'weak', object: 'queue', slots: 0, steps: { queued: 1 } }],
      calls: [{ id: 'spare', object: 'provider.calls', outcomes: { timeout: 1, ok: 1 }, error: 'no answer' }],
    },
    [provider({ breaker: 'open', cause: 'HTTP 500' })],
  ) // prettier-ignore
  expect(told.map(({ title }) => title)).toEqual([
    'Workers of the queue train are missing',
    'Redis is missing',
    '1 step waits in the queue weak, which no process serves',
    'The provider default gets only test calls',
    'judge@a:1 stopped responding',
    '1 of 2 calls to spare failed in the last hour',
  ])
  expect(told[3]?.remedy).toContain('HTTP 500')
})

test('parts have names that people know', () => {
  expect(partWords('queue:weak')).toBe('workers of the queue weak')
  expect(partWords('broker')).toBe('Redis')
})

test('calls that are on their way did not fail', () => {
  expect(failedOf({ id: 'a', object: 'provider.calls', outcomes: { ok: 3, cached: 1, intent: 2, http_429: 1 } })).toEqual({ all: 7, failed: 1 })
})

test('queues tell their steps by state', () => {
  const told = loads({ ...system, queues: [{ id: 'weak', object: 'queue', slots: 2, steps: { running: 1, queued: 4, succeeded: 9 } }] })
  expect(told).toEqual([{ id: 'weak', slots: 2, running: 1, waiting: 4, done: 9, failed: 0 }])
})

test('how much a provider takes', () => {
  expect(trafficWords(provider({ in_use: 1 }))).toBe('at most 8 calls at once, 1 open')
  expect(trafficWords(provider({ limit: 2 }))).toBe('now limited to 2 of 8 calls at once, 0 open')
  expect(rateWords(provider({ requests_per_minute: 60 }))).toBe('at most 60 requests per minute')
  expect(rateWords(provider({}))).toBe('no limit per minute')
})

test('metrics are read with their labels, and chats are counted by model', () => {
  const text = `# HELP meteor_chat_requests_total Chats
meteor_chat_requests_total{alias="shell",outcome="ok",project="default",role="served",version="1"} 3.0
meteor_chat_requests_total{alias="shell",outcome="error",project="default",role="served",version="1"} 1.0
meteor_chat_requests_total{alias="a\\"b",outcome="refused",project="p",role="served",version="1"} 0.0
meteor_chat_seconds_sum{alias="shell",project="default",role="served",version="1"} 6.0
meteor_chat_seconds_count{alias="shell",project="default",role="served",version="1"} 3.0
meteor_database_up 1.0
broken line without value
`
  const all = samples(text)
  expect(all).toHaveLength(6)
  expect(all[2]?.labels['alias']).toBe('a"b')
  expect(chats(all)).toEqual([{ model: 'shell@1', project: 'default', role: 'served', all: 4, failed: 1, seconds: 2 }])
})
