import { expect, test } from 'vitest'
import type { Job } from '../../lib/job'
import { everyDay, limitsOf, perPoint, since, withoutPrice, type Report, type UsageRow } from './spend'

const row = (group: string, usd: number) => ({ group, usd_spent: usd, teacher_calls: 2 }) as UsageRow
const job = (delta: number) => ({ distillation: { evaluation_result: { metric: 'chrf', before: 0, after: 0, delta, ci95: [0, 1], n: 80 } } }) as unknown as Job

test('every day has a value, also one without a call', () => {
  const from = Date.UTC(2026, 10, 28) / 1000
  const days = everyDay([row('2026-11-28', 1), row('2026-11-30', 2)], from, from + 2 * 86_400 + 60)
  expect(days.map(({ usd }) => usd)).toEqual([1, 0, 2])
  expect(days[1]?.at).toBe(from + 86_400)
})

test('a span of days begins at midnight of UTC and holds today', () => {
  const noon = Date.UTC(2026, 10, 30, 12) / 1000
  expect(since(1, noon)).toBe(Date.UTC(2026, 10, 30) / 1000)
  expect(since(30, noon)).toBe(Date.UTC(2026, 10, 1) / 1000)
})

test('what a point of gain costs, where there was a gain', () => {
  expect(perPoint(5, job(0.1))).toBeCloseTo(0.5)
  expect(perPoint(5, job(0))).toBe('none')
  expect(perPoint(5, job(-0.1))).toBe('none')
  expect(perPoint(5, undefined)).toBeNull()
})

test('only what is limited is told, and nothing is left below zero', () => {
  const budget = { limits: { max_usd: 10, max_tokens: null, max_calls: 0 }, spent: { usd: 12, tokens: 5, calls: 0 } }
  expect(limitsOf(budget)).toEqual([
    { unit: 'usd', spent: 12, most: 10, left: 0, share: 1 },
    { unit: 'calls', spent: 0, most: 0, left: 0, share: 1 },
  ])
})

test('calls that cost nothing have no price', () => {
  expect(withoutPrice({ total: { teacher_calls: 5, usd_spent: 0 } } as Report)).toBe(true)
  expect(withoutPrice({ total: { teacher_calls: 5, usd_spent: 1 } } as Report)).toBe(false)
  expect(withoutPrice({ total: { teacher_calls: 0 } } as Report)).toBe(false)
})
