/** The form of a new job, and the request that it makes. Pure. */

import type { Schemas } from '../../lib/api/client'
import type { ErrorItem } from '../../lib/api/errors'

export type JobRequest = Schemas['JobRequest']
type Json = Record<string, unknown>

export const PHASES = ['distill', 'iterate', 'evolve'] as const
export type Phase = (typeof PHASES)[number]

/** A grader that the form offers. value: as the API takes it. */
export const GRADERS: { id: string; label: string; about: string; value: unknown }[] = [
  { id: 'chrf', label: 'chrF', about: 'how many pieces of words agree; for short free texts and commands', value: 'chrf' },
  { id: 'rouge_l', label: 'ROUGE-L', about: 'the longest common run of words; for long free texts', value: 'rouge_l' },
  { id: 'string_check', label: 'Same text', about: 'right or wrong; for labels and fixed answers', value: 'string_check' },
  { id: 'contains', label: 'Contains the reference', about: 'right if the reference stands in the answer', value: 'contains' },
  { id: 'first_token', label: 'Same first word', about: 'right if the first words agree; for choices', value: 'first_token' },
  { id: 'number', label: 'Same number', about: 'the last number of the answer; for sums', value: { type: 'number' } },
  { id: 'json_equal', label: 'Same JSON', about: 'values agree, whatever the order of fields', value: { type: 'json_equal' } },
  { id: 'code_tests', label: 'Passes tests', about: 'the reference is code that tests the answer', value: { type: 'code_tests' } },
]

export interface JobForm {
  file: string
  model: string
  suffix: string
  domain: string
  grader: string
  /** A grader as JSON, where `grader` is "other". */
  otherGrader: string
  passMark: number
  phases: Phase[]
  guidance: 'auto' | 'weak' | 'none' | 'best'
  strategy: 'critique' | 'sample' | 'both'
  rounds: number
  tries: number
  answerTokens: number
  provider: string
  ground: boolean
  judge: string
  maxUsd: number | null
  maxCalls: number | null
  onExceed: 'pause' | 'fail'
  pauseAfter: '' | 'pilot' | Phase
  seed: number
  /** Further settings as JSON, laid under those of the form. */
  advanced: string
}

export const EMPTY: JobForm = {
  file: '', model: '', suffix: 'expert', domain: '', grader: 'chrf', otherGrader: '{"type": "sql_result", "database": "@schema.sql"}', passMark: 0.6,
  phases: [...PHASES], guidance: 'auto', strategy: 'critique', rounds: 1, tries: 3, answerTokens: 256, provider: 'default', ground: true,
  judge: 'default', maxUsd: null, maxCalls: null, onExceed: 'pause', pauseAfter: '', seed: 0, advanced: '',
} // prettier-ignore

/** A JSON object, or why it is none. */
export function readJson(text: string): { value: Json } | { problem: string } {
  if (!text.trim()) return { value: {} }
  try {
    const value: unknown = JSON.parse(text)
    if (isObject(value)) return { value }
    return { problem: 'This must be a JSON object in braces.' }
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) }
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function merged(base: Json, over: Json): Json {
  const all = { ...base }
  for (const [name, value] of Object.entries(over)) {
    const below = all[name]
    all[name] = isObject(below) && isObject(value) ? merged(below, value) : value
  }
  return all
}

function graderOf(form: JobForm): unknown {
  if (form.grader !== 'other') return GRADERS.find(({ id }) => id === form.grader)?.value ?? 'chrf'
  const read = readJson(form.otherGrader)
  return 'value' in read ? read.value : 'chrf'
}

/** The request. `advanced` may be a whole job or the settings of `distillation` alone; what the form says stands over it. */
export function requestOf(form: JobForm): JobRequest {
  const read = readJson(form.advanced)
  const given = 'value' in read ? read.value : {}
  const whole = isObject(given['distillation']) ? given : { distillation: given }
  const grader = graderOf(form)
  const has = (phase: Phase) => form.phases.includes(phase)
  const distillation: Json = {
    domain: form.domain,
    primary_metric: grader,
    phases: PHASES.filter(has),
    answer_tokens: form.answerTokens,
    guidance: form.guidance,
    teacher: { provider: form.provider, ground: form.ground },
    judge: { provider: form.judge, grader, pass_mark: form.passMark },
    ...(has('iterate') && { iterate: { strategy: form.strategy, rounds: form.rounds, tries: form.tries } }),
    budget: { max_usd: form.maxUsd, max_calls: form.maxCalls, on_exceed: form.onExceed },
    ...(form.pauseAfter && { pause_after: form.pauseAfter }),
  }
  const own = { model: form.model, training_file: form.file, suffix: form.suffix, seed: form.seed, distillation }
  return merged(whole, own) as unknown as JobRequest
}

/** The form for a job that stands in a file: its fields where the form has them, all of it as further settings. */
export function formOf(job: Json): JobForm {
  const spec = isObject(job['distillation']) ? job['distillation'] : {}
  const part = (name: string): Json => (isObject(spec[name]) ? spec[name] : {})
  const grader = GRADERS.find(({ value }) => JSON.stringify(value) === JSON.stringify(spec['primary_metric'] ?? 'chrf'))
  const { model: _model, ...rest } = job
  return {
    ...EMPTY,
    suffix: text(job['suffix'], EMPTY.suffix),
    seed: number(job['seed'], 0),
    domain: text(spec['domain'], ''),
    grader: grader?.id ?? 'other',
    otherGrader: grader ? EMPTY.otherGrader : JSON.stringify(spec['primary_metric'], null, 2),
    passMark: number(part('judge')['pass_mark'], EMPTY.passMark),
    guidance: text(spec['guidance'], EMPTY.guidance) as JobForm['guidance'],
    strategy: text(part('iterate')['strategy'], EMPTY.strategy) as JobForm['strategy'],
    rounds: number(part('iterate')['rounds'], EMPTY.rounds),
    tries: number(part('iterate')['tries'], EMPTY.tries),
    answerTokens: number(spec['answer_tokens'], EMPTY.answerTokens),
    advanced: JSON.stringify(rest, null, 2),
  }
}

const text = (value: unknown, otherwise: string): string => (typeof value === 'string' ? value : otherwise)
const number = (value: unknown, otherwise: number): number => (typeof value === 'number' ? value : otherwise)

/** The faults of the fields with this path or below it. */
export function faultsOf(items: ErrorItem[], ...paths: string[]): string | null {
  const mine = items.filter(({ param }) => param != null && paths.some((path) => param === path || param.startsWith(`${path}.`)))
  return mine.length ? mine.map(({ message, remedy }) => (remedy ? `${message}. ${remedy}` : message)).join(' ') : null
}

/** What is missing before anything is worth asking. */
export function missing(form: JobForm): string[] {
  const told: string[] = []
  if (!form.file) told.push('a file')
  if (!form.model) told.push('a student')
  if (!form.domain.trim()) told.push('the domain in a few words')
  if (!form.phases.length) told.push('at least one phase')
  return told
}

/** The mapping that an error message suggests, as in `--map question=body --map 'reference=the answer'`. */
export function suggestedMapping(message: string): Record<string, string> | null {
  const pairs = [...message.matchAll(/--map (?:'([^'=]+)=([^']*)'|([\w.]+)=([^\s,)]+))/g)]
  const mapping = Object.fromEntries(pairs.map((pair) => [pair[1] ?? pair[3] ?? '', pair[2] ?? pair[4] ?? '']))
  return pairs.length && !Object.values(mapping).includes('FIELD') ? mapping : null
}
