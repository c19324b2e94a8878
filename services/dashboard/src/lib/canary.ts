/** How a version is tried beside the served one: what the forms ask, as the API takes it. Pure. */

import type { Schemas } from './api/client'

export const METRICS: { name: Exclude<Schemas['Metric'], 'grader'>; label: string; about: string }[] = [
  { name: 'errors', label: 'errors', about: 'answers that fail' },
  { name: 'latency_ms', label: 'slow answers', about: 'answers that fail or take longer than a limit' },
  { name: 'feedback', label: 'thumbs down', about: 'of those who rate stored chats' },
]

export const PERS: { name: Schemas['Per']; label: string; about: string }[] = [
  { name: 'user', label: 'a user, once in a step', about: 'Answers to one user tend to end alike, so the first one counts.' },
  { name: 'answer', label: 'an answer, one a minute of each user', about: 'For few users who ask much. Versions without harm return more often than they should.' },
]

export interface CanaryWish {
  mode: 'goal' | 'share'
  percent: number | null
  shadow: boolean
  metric: (typeof METRICS)[number]['name']
  limitMs: number | null
  steps: string
  minRequests: number | null
  per: Schemas['Per']
  /** Empty: the API finds the user by itself. */
  userKey: string
  promote: boolean
}

export const startingCanary = (): CanaryWish => ({
  mode: 'goal', percent: 10, shadow: false, metric: 'errors', limitMs: 5000, steps: '5, 25, 50', minRequests: 100, per: 'user', userKey: '', promote: false,
}) // prettier-ignore

/** Percentages between commas; null where one is none. */
export function readSteps(text: string): number[] | null {
  const steps = text.split(/[\s,;%]+/).filter(Boolean).map(Number)
  const rising = steps.every((step, n) => Number.isFinite(step) && step > 0 && step <= 100 && (n === 0 || step > (steps[n - 1] ?? 0)))
  return steps.length && rising ? steps : null
}

/** What is wrong with its steps. */
export const stepsFault = (wish: CanaryWish): string | null => (wish.mode === 'goal' && readSteps(wish.steps) === null ? 'Percentages that rise, up to 100, as 5, 25, 50.' : null)

export function canaryTerms(wish: CanaryWish): Schemas['CanaryTerms-Input'] {
  if (wish.mode === 'share') return { percent: wish.percent ?? 0, ...(wish.shadow && { shadow: true }) } as Schemas['CanaryTerms-Input']
  const goal = {
    metric: wish.metric,
    ...(wish.metric === 'latency_ms' && { limit_ms: wish.limitMs }),
    ...(wish.minRequests && { min_requests: wish.minRequests }),
    ...(wish.per !== 'user' && { per: wish.per }),
    ...(wish.userKey.trim() && { user_key: wish.userKey.trim() }),
  }
  return { goal, steps: readSteps(wish.steps), ...(wish.promote && { promote: true }) } as Schemas['CanaryTerms-Input']
}
