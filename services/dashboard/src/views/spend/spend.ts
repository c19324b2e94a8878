/** What was spent, by what it was for. Pure. */

import type { Schemas } from '../../lib/api/client'
import { evaluationOf, type Job } from '../../lib/job'

export type Report = Schemas['UsageReport']
export type UsageRow = Schemas['UsageRow']
export type Group = Schemas['UsageGroup']
export type Budget = Schemas['SharedBudgetObject']

export const GROUPS: { name: Group; label: string; one: string; none: string }[] = [
  { name: 'job', label: 'by job', one: 'Job', none: 'for no job, such as tests of providers' },
  { name: 'phase', label: 'by phase', one: 'Phase', none: 'for no phase' },
  { name: 'key', label: 'by key', one: 'API key', none: 'by the operator, or on this machine' },
  { name: 'provider', label: 'by provider', one: 'Provider', none: 'unknown' },
  { name: 'outcome', label: 'by how calls ended', one: 'Ended', none: 'unknown' },
  { name: 'project', label: 'by project', one: 'Project', none: 'unknown' },
]
export const SPANS: { days: number; label: string }[] = [
  { days: 7, label: '7 days' },
  { days: 30, label: '30 days' },
  { days: 90, label: '90 days' },
  { days: 365, label: 'a year' },
]
export const DAY_S = 86_400

/** The first second (UTC) of the first of so many days, today included. now: in seconds. */
export const since = (days: number, now: number): number => (Math.floor(now / DAY_S) - days + 1) * DAY_S

export interface Day {
  /** Seconds since 1970. */
  at: number
  usd: number
  calls: number
}

/** A value for each day from the first to the last one, also for those without a call. */
export function everyDay(rows: UsageRow[], from: number, until: number): Day[] {
  const told = new Map(rows.map((row) => [row.group, row]))
  const days: Day[] = []
  for (let at = Math.floor(from / DAY_S) * DAY_S; at < until; at += DAY_S) {
    const row = told.get(new Date(at * 1000).toISOString().slice(0, 10))
    days.push({ at, usd: row?.usd_spent ?? 0, calls: row?.teacher_calls ?? 0 })
  }
  return days
}

/** Dollars for each point (hundredth) that the job has gained on test. "none": it has not gained; null: it has not ended so far that one could say. */
export function perPoint(usd: number, job: Job | undefined): number | 'none' | null {
  const result = job && evaluationOf(job)
  if (!result) return null
  return result.delta > 0 ? usd / (100 * result.delta) : 'none'
}

export interface Limit {
  unit: 'usd' | 'tokens' | 'calls'
  spent: number
  most: number
  left: number
  /** Between 0 and 1. */
  share: number
}

/** The limits that a budget has. */
export function limitsOf(budget: Pick<Budget, 'limits' | 'spent'>): Limit[] {
  const { limits, spent } = budget
  const told: [Limit['unit'], number | null | undefined, number][] = [
    ['usd', limits.max_usd, spent.usd],
    ['tokens', limits.max_tokens, spent.tokens],
    ['calls', limits.max_calls, spent.calls],
  ]
  return told.flatMap(([unit, most, used]) =>
    most == null ? [] : [{ unit, spent: used, most, left: Math.max(most - used, 0), share: most > 0 ? Math.min(used / most, 1) : 1 }],
  )
}

/** Whether a cost is known: calls without a price cost nothing by the ledger. */
export const withoutPrice = (report: Report): boolean => (report.total.teacher_calls ?? 0) > 0 && !(report.total.usd_spent ?? 0) && !(report.total.usd_reserved ?? 0)
