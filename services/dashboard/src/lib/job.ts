/** What is said of a job: its time left, its money, its stages. Pure. */

import type { components } from './api/schema'
import { between, count, dateTime, duration, plural, usd, words } from './format'

type Schemas = components['schemas']
export type Job = Schemas['JobObject']
export type Step = Schemas['StepObject']
export type Metrics = Schemas['MetricsObject']
export type JobStatus = Schemas['JobStatus']

export const STATUSES: JobStatus[] = [
  'validating_files', 'queued', 'running', 'pausing', 'paused', 'cancelling', 'cancelled', 'succeeded', 'failed',
] // prettier-ignore
/** What a phase repeats. */
const UNITS: Record<string, string> = { iterate: 'round', evolve: 'turn' }
const ENDED: JobStatus[] = ['succeeded', 'failed', 'cancelled']
/** What can be asked of a job, and the statuses in which the API does it. */
const MOVES: Record<Move, JobStatus[]> = {
  pause: ['queued', 'running'],
  resume: ['paused'],
  cancel: ['validating_files', 'queued', 'running', 'pausing', 'paused'],
}
export type Move = 'pause' | 'resume' | 'cancel'

export const hasEnded = (job: Job): boolean => ENDED.includes(job.status)
export const may = (job: Job, move: Move): boolean => MOVES[move].includes(job.status)

export interface Evaluation {
  metric: string
  before: number
  after: number
  delta: number
  ci95: [number, number]
  n: number
}

/** What the job has gained on its test split; null before it has succeeded. */
export function evaluationOf(job: Job): Evaluation | null {
  const told = job.distillation.evaluation_result
  return told && typeof told['delta'] === 'number' && Array.isArray(told['ci95']) ? (told as unknown as Evaluation) : null
}

/** When it ends, or why nobody can tell. */
export function timeLeft(job: Job): string {
  const { progress, queue } = job.distillation
  if (job.finished_at) return `took ${duration(job.finished_at - job.created_at)}`
  if (job.status === 'paused') return 'waits until it is resumed'
  if (queue) {
    const starts = queue.starts_in_seconds
    return `number ${queue.position} in the queue${starts == null ? '' : `, starts in ${starts < 60 ? '' : 'about '}${duration(starts)}`}`
  }
  if (progress?.eta_seconds == null) return 'no estimate yet'
  const low = progress.eta_low_seconds ?? progress.eta_seconds
  const high = progress.eta_high_seconds ?? progress.eta_seconds
  if (high > 1.25 * low) return `${between(low, high)} left`
  return `${progress.eta_seconds < 60 ? '' : 'about '}${duration(progress.eta_seconds)} left`
}

export function moneySpent(job: Job): string {
  const { usage, budget } = job.distillation
  const limit = budget?.max_usd
  return `${usd(usage?.usd_spent ?? 0)}${limit == null ? '' : ` of ${usd(limit)}`}`
}

export function callsMade(job: Job): string {
  const { usage, budget } = job.distillation
  const limit = budget?.max_calls
  return `${count(usage?.teacher_calls ?? 0)}${limit == null ? '' : ` of ${count(limit)}`} teacher calls`
}

/** Why the job stands where it does: an error, or a reason. */
export function reason(job: Job): string | null {
  if (job.error) return `${job.error.message} (${job.error.code ?? job.error.type})`
  return job.distillation.status_reason ?? job.distillation.queue?.reason ?? null
}

export interface StepKey {
  phase: string
  round: number | null
  /** What the step does in its phase, as "try-2/answers". */
  role: string
  batch: number | null
}

/** The parts of a step's key: phase/round/role/batch, of which some may be missing. */
export function parseKey(text: string): StepKey {
  const [phase = '', ...rest] = text.split('/')
  const isNumber = (part: string | undefined) => part !== undefined && /^(0|[1-9]\d{0,8})$/.test(part)
  const batch = isNumber(rest.at(-1)) ? Number(rest.pop()) : null
  const round = rest.length > 1 && isNumber(rest[0]) ? Number(rest.shift()) : null
  return { phase, round, role: rest.join('/'), batch }
}

/** "iterate/2/try-1/answers/0" as "iterate, round 2: try 1, answers, batch 1". */
export function stepWords(text: string): string {
  const { phase, round, role, batch } = parseKey(text)
  const where = [phase, ...(round === null ? [] : [`${UNITS[phase] ?? 'round'} ${round}`])].join(', ')
  const what = [...role.split('/').filter(Boolean).map((part) => words(part.replaceAll('-', ' '))), ...(batch === null ? [] : [`batch ${batch + 1}`])].join(', ')
  return what ? `${where}: ${what}` : where
}

/** A job among others of its name: "shell, 1 Dec 2026, 00:43". */
export const jobLabel = (job: Job): string => `${job.suffix}, ${dateTime(job.created_at)}`

export interface Stage {
  name: string
  /** "round" or "turn" of a stage that repeats. */
  unit: string | null
  state: 'done' | 'now' | 'begun' | 'waiting' | 'stopped' | 'unused'
  steps: number
  done: number
  failed: number
  /** Seconds since 1970. */
  from: number | null
  to: number | null
  parts: Part[]
}

/** A round or turn, or a kind of work in a stage. */
export interface Part {
  name: string
  state: Stage['state']
  steps: number
  done: number
  tries: string[]
}

/** The stages of a job as it was planned, with what its steps tell of each. */
export function stagesOf(job: Job, steps: Step[]): Stage[] {
  const spec = job.distillation
  const names = ['pilot', ...(spec.phases ?? []), 'evaluate']
  const by = new Map<string, { step: Step; key: StepKey }[]>(names.map((name) => [name, []]))
  for (const step of steps) {
    const key = parseKey(step.key)
    by.get(key.phase)?.push({ step, key })
  }
  const last = names.findLastIndex((name) => name !== 'evaluate' && by.get(name)?.length)
  return names.map((name, place) => {
    const own = by.get(name) ?? []
    const planned = name === 'iterate' ? (spec.iterate?.rounds ?? 1) : name === 'evolve' ? (spec.evolve?.turns ?? 1) : 0
    const over = job.status === 'succeeded' || (name !== 'evaluate' && place < last)
    const isNow = !hasEnded(job) && spec.phase === name
    const ended = hasEnded(job)
    const stopped = ended && (own.length > 0 || spec.failure?.phase === name)
    const state = isNow ? 'now' : over ? 'done' : stopped ? 'stopped' : ended ? 'unused' : !own.length ? 'waiting' : name === 'evaluate' ? 'begun' : 'done'
    const starts = own.flatMap(({ step }) => step.started_at ?? [])
    const ends = own.flatMap(({ step }) => step.finished_at ?? [])
    return {
      name,
      unit: UNITS[name] ?? null,
      state,
      ...counted(own.map(({ step }) => step)),
      from: starts.length ? Math.min(...starts) : null,
      to: ends.length && state !== 'now' ? Math.max(...ends) : null,
      parts: planned > 1 || (planned && own.length) ? partsOf(own, planned, state) : [],
    }
  })
}

function partsOf(own: { step: Step; key: StepKey }[], planned: number, stage: Stage['state']): Part[] {
  const begun = Math.max(0, ...own.map(({ key }) => key.round ?? 0))
  return Array.from({ length: planned }, (_, n) => {
    const mine = own.filter(({ key }) => (key.round ?? 1) === n + 1)
    const tries = [...new Set(mine.flatMap(({ key }) => /^try-\d+/.exec(key.role)?.[0] ?? []))]
    const { steps, done } = counted(mine.map(({ step }) => step))
    const state = !steps ? (stage === 'done' || stage === 'unused' ? 'unused' : 'waiting') : n + 1 < begun || stage === 'done' ? 'done' : stage
    return { name: `${n + 1}`, state, steps, done, tries }
  })
}

function counted(steps: Step[]): { steps: number; done: number; failed: number } {
  const of = (state: string) => steps.filter((step) => step.state === state).length
  return { steps: steps.length, done: of('succeeded'), failed: of('failed') }
}

/** "round 2 of 3" of the running phase; empty where nothing repeats. */
export function whereInPhase(stage: Stage | undefined): string {
  if (!stage?.unit || stage.parts.length < 2) return ''
  const begun = stage.parts.filter((part) => part.steps > 0).length
  return begun ? `${stage.unit} ${begun} of ${stage.parts.length}` : ''
}

/** What decides about the training, by name, as texts. */
export function settingsOf(job: Job): [string, string][] {
  const { primary_metric: metric, phases = [], teacher, judge, guidance, iterate, evolve, adapter, budget } = job.distillation
  const has = (phase: string) => (phases as string[]).includes(phase)
  return [
    ['Student', job.model],
    ['Teacher', teacher?.provider ?? 'default'],
    ['Judge', judge?.provider ?? 'default'],
    ['Grader', typeof metric === 'string' ? metric : metric?.type],
    ['Phases', phases.join(', ')],
    ['Guidance', has('distill') ? guidance : null],
    ['Iterate', has('iterate') && iterate ? `${plural(iterate.rounds ?? 1, 'round')}, ${plural(iterate.tries ?? 1, 'try', 'tries')}, ${iterate.strategy}` : null],
    ['Evolve', has('evolve') && evolve ? `${plural(evolve.turns ?? 1, 'turn')}, ${words(evolve.strategy ?? '')}` : null],
    ['Training', adapter ? (adapter.method === 'full' ? 'all weights' : `${adapter.method}, rank ${adapter.rank}, alpha ${adapter.alpha}`) : null],
    ['Longest answer', job.distillation.answer_tokens ? plural(job.distillation.answer_tokens, 'token') : null],
    ['Budget', budget?.max_usd == null && budget?.max_calls == null ? 'no limit' : [budget.max_usd != null && usd(budget.max_usd), budget.max_calls != null && plural(budget.max_calls, 'call')].filter(Boolean).join(', ')],
    ['Seed', `${job.seed}`],
  ].flatMap(([name, value]): [string, string][] => (name && value ? [[name, value]] : []))
}

const ASKED = ['model', 'training_file', 'validation_file', 'suffix', 'seed', 'hyperparameters', 'metadata'] as const
const TOLD = ['forked_from', 'status', 'phase', 'status_reason', 'failure', 'queue', 'progress', 'usage', 'estimate', 'evaluation_result']

/** The body that would post a job like this one: what its object says, without what only the server says of a job. */
export function requestOf(job: Job): Record<string, unknown> {
  const distillation = Object.fromEntries(Object.entries(job.distillation).filter(([name]) => !TOLD.includes(name)))
  const asked = ASKED.flatMap((name) => (job[name] == null ? [] : [[name, job[name]] as const]))
  return { ...Object.fromEntries(asked), distillation }
}
