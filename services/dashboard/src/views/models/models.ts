/** Aliases, their versions, canaries and lineage, as the API lists them. Pure. */

import type { Schemas } from '../../lib/api/client'
import { count, decimal, percent, plural } from '../../lib/format'

export type ModelObject = Schemas['ModelObject']
export type Canary = Schemas['CanaryObject']
export type Standing = Schemas['CanaryStanding']
export type ExportObject = Schemas['ExportObject']

export interface Alias {
  name: string
  base: string
  /** The version that is served; null where none is. */
  served: number | null
  /** Newest first. */
  versions: ModelObject[]
}

/** Bases, and aliases with their versions, newest alias first. The list has an alias of its own name right before the version it serves. */
export function grouped(models: ModelObject[]): { bases: ModelObject[]; aliases: Alias[] } {
  const bases = models.filter((model) => model.version == null)
  const aliases = new Map<string, Alias>()
  for (const model of models) {
    if (model.version == null) continue
    const [name = '', number] = model.id.split('@')
    const alias = aliases.get(name) ?? { name, base: model.parent ?? '', served: null, versions: [] }
    if (number === undefined) alias.served = model.version
    else alias.versions.push(model)
    aliases.set(name, alias)
  }
  return { bases, aliases: [...aliases.values()] }
}

export const servedOf = (alias: Alias): ModelObject | null => alias.versions.find((one) => one.version === alias.served) ?? null

/** The version that a roll back serves: the newest promoted one before the served one. Versions are newest first. */
export const earlierOf = ({ served, versions }: Alias): ModelObject | null =>
  (served !== null && versions.find((one) => one.state === 'promoted' && (one.version ?? 0) < served)) || null

/** Versions that can be compared with the served one: all but it. */
export const others = (alias: Alias): ModelObject[] => alias.versions.filter((one) => one.version !== alias.served)

export interface Descent {
  version: ModelObject
  depth: number
}

/** Versions as a tree, in lines: each below the one that its training went on from. Those that go on from none, or from a deleted one, begin. */
export function descent(versions: ModelObject[]): Descent[] {
  const ids = new Set(versions.map(({ id }) => id))
  const oldestFirst = [...versions].sort((a, b) => (a.version ?? 0) - (b.version ?? 0))
  const lines: Descent[] = []
  const seen = new Set<string>()
  const add = (version: ModelObject, depth: number) => {
    if (seen.has(version.id)) return
    seen.add(version.id)
    lines.push({ version, depth })
    for (const child of oldestFirst) if (child.continues === version.id) add(child, depth + 1)
  }
  for (const version of oldestFirst) if (!version.continues || !ids.has(version.continues)) add(version, 0)
  for (const version of oldestFirst) add(version, 0)
  return lines
}

const METRIC_WORDS: Record<string, string> = { errors: 'share of errors', latency_ms: 'share of slow answers', feedback: 'share of thumbs down', grader: '1 less the score' }
export const metricWords = (metric: string): string => METRIC_WORDS[metric] ?? metric

/** What a canary does now, in a sentence. */
export function canaryWords(canary: Canary): string {
  const share = `${Number(canary.percent.toFixed(1))} % of the conversations`
  const now = canary.shadow
    ? `Version ${canary.served} answers everybody. Copies of ${share} go to version ${canary.version}, whose answers are dropped.`
    : `Version ${canary.version} answers ${share}, version ${canary.served} the rest.`
  if (!canary.goal) return `${now} It runs until somebody ends it or another version is served.`
  const end = canary.promote ? 'and promoted if it does none' : 'and ends without a change if it does none'
  return `${now} It is rolled back by itself on harm, ${end}.`
}

/** "step 2 of 3: 25 %" of a canary with a goal. */
export function stepWords(canary: Canary): string {
  const steps = canary.steps ?? []
  const step = canary.standing?.step ?? 1
  return steps.length > 1 ? `step ${step} of ${steps.length}: ${steps.map((share) => `${share} %`).join(', ')}` : ''
}

/** What was counted in the present step, users or answers, and how many it needs at least. */
export function requestsWords(canary: Canary): string {
  const { goal, standing } = canary
  if (!goal || !standing) return ''
  return `${plural(standing.canary.requests, goal.per === 'answer' ? 'answer' : 'user')} of the canary, ${count(standing.served.requests)} of the served version; a step takes at least ${count(goal.min_requests ?? 100)} of each`
}

export const lossWords = (loss: number | null | undefined): string => (loss == null ? 'not measured yet' : percent(loss, 1))

export function evidenceWords(standing: Standing): string {
  const { harm = 0, gain = 0 } = standing
  if (standing.outcome) return `decided: ${standing.outcome.replace('_', ' ')}`
  if (Math.max(harm, gain) <= 0) return 'no evidence yet'
  return `evidence of harm ${decimal(Math.min(harm, 1), 2)}, of a gain ${decimal(Math.min(gain, 1), 2)}; at 1 it decides`
}

export const ABILITIES: { name: 'load' | 'train_lora' | 'train_full' | 'dpo' | 'search' | 'serve'; label: string }[] = [
  { name: 'load', label: 'load' },
  { name: 'train_lora', label: 'train with LoRA' },
  { name: 'train_full', label: 'train all weights' },
  { name: 'dpo', label: 'learn preferences' },
  { name: 'search', label: 'search' },
  { name: 'serve', label: 'serve' },
]
