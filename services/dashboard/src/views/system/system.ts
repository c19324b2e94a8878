/** What is told of the running system, and what is wrong with it. Pure. */

import type { Schemas } from '../../lib/api/client'
import { count, plural, words } from '../../lib/format'

export type System = Schemas['SystemObject']
export type Readiness = Schemas['Readiness']
export type Provider = Schemas['ProviderObject']
export type ProviderCalls = Schemas['ProviderCalls']

export interface Finding {
  tone: 'bad' | 'warn'
  title: string
  remedy: string
}

const PARTS: Record<string, { name: string; remedy: string }> = {
  database: { name: 'the database', remedy: 'Jobs and their steps stand there; nothing goes on until it answers.' },
  broker: { name: 'Redis', remedy: 'Steps are found by polling meanwhile, which is slower. Start it again.' },
  engine: { name: 'the engine that serves models', remedy: 'Chats are refused, and steps that need the student wait. Its log says why.' },
}

/** "queue:weak" as "workers of the queue weak". */
export function partWords(part: string): string {
  return part.startsWith('queue:') ? `workers of the queue ${part.slice(6)}` : (PARTS[part]?.name ?? words(part))
}

const FAILED_SHARE = 0.2
const GOOD = ['ok', 'cached']

/** Calls of the last hour, and how many of them did not end as they should. */
export function failedOf(calls: ProviderCalls): { all: number; failed: number } {
  const entries = Object.entries(calls.outcomes)
  const sum = (part: [string, number][]) => part.reduce((total, [, number]) => total + number, 0)
  return { all: sum(entries), failed: sum(entries.filter(([outcome]) => !GOOD.includes(outcome) && outcome !== 'intent')) }
}

/** Everything that somebody should look at, the worst first. */
export function findings(ready: Readiness | undefined, system: System | undefined, providers: Provider[] | undefined): Finding[] {
  const told: Finding[] = []
  for (const part of ready?.missing ?? []) {
    const queue = part.startsWith('queue:') ? part.slice(6) : null
    told.push({
      tone: 'bad',
      title: `${capital(partWords(part))} ${queue ? 'are' : 'is'} missing`,
      remedy: queue ? 'No process takes its steps. "meteor status" shows whether its service runs.' : (PARTS[part]?.remedy ?? ''),
    })
  }
  for (const queue of system?.queues ?? []) {
    const waiting = queue.steps['queued'] ?? 0
    if (waiting && !queue.slots && !ready?.missing.includes(`queue:${queue.id}`)) {
      told.push({ tone: 'bad', title: `${plural(waiting, 'step')} ${waiting === 1 ? 'waits' : 'wait'} in the queue ${queue.id}, which no process serves`, remedy: 'Start its worker.' })
    }
  }
  for (const provider of providers ?? []) {
    if (provider.traffic?.breaker === 'open') {
      told.push({
        tone: 'bad',
        title: `The provider ${provider.name} gets only test calls`,
        remedy: provider.traffic.cause ? `It failed too often in a row, the last time with: ${provider.traffic.cause}` : 'It failed too often in a row.',
      })
    }
  }
  for (const process of system?.processes ?? []) {
    if (process.state === 'lost') told.push({ tone: 'warn', title: `${process.id} stopped responding`, remedy: 'Another worker takes its steps. The log of the service says why it ended.' })
  }
  for (const calls of system?.calls ?? []) {
    const { all, failed } = failedOf(calls)
    if (failed && failed / all >= FAILED_SHARE) {
      told.push({ tone: 'warn', title: `${count(failed)} of ${plural(all, 'call')} to ${calls.id} failed in the last hour`, remedy: calls.error ? `The last time with: ${calls.error}` : '' })
    }
  }
  if (ready?.engine?.state === 'failed') told.push({ tone: 'bad', title: `The engine could not start ${ready.engine.serving}`, remedy: ready.engine.reason ?? '' })
  return told.sort((a, b) => Number(a.tone === 'warn') - Number(b.tone === 'warn'))
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

export interface Load {
  id: string
  slots: number
  running: number
  waiting: number
  done: number
  failed: number
}

export const loads = (system: System): Load[] =>
  system.queues.map(({ id, slots, steps }) => ({
    id,
    slots,
    running: steps['running'] ?? 0,
    waiting: steps['queued'] ?? 0,
    done: steps['succeeded'] ?? 0,
    failed: steps['failed'] ?? 0,
  }))

/** "at most 8 calls at once, 2 open". */
export function trafficWords(provider: Provider): string {
  const { traffic } = provider
  if (!traffic) return ''
  const bears = traffic.limit < traffic.most ? `now limited to ${count(traffic.limit)} of ${count(traffic.most)} calls at once` : `at most ${plural(traffic.most, 'call')} at once`
  return `${bears}, ${count(traffic.in_use)} open`
}

export function rateWords(provider: Provider): string {
  const { requests_per_minute: requests, tokens_per_minute: tokens } = provider.traffic ?? {}
  const limits = [requests != null && `${count(requests)} requests`, tokens != null && `${count(tokens)} tokens`].filter(Boolean)
  return limits.length ? `at most ${limits.join(' and ')} per minute` : 'no limit per minute'
}
