/** The form of a new job, and the request that it makes. Pure. */

import type { Schemas } from '../../lib/api/client'
import { itemWords, type ErrorItem } from '../../lib/api/errors'
import { canaryTerms, type CanaryWish } from '../../lib/canary'

export type JobRequest = Schemas['JobRequest']
type Json = Record<string, unknown>

export type Phase = Schemas['Phase']
/** What each phase does. The type makes the build fail where the API has another phase. */
export const PHASE_WORDS: Record<Phase, string> = {
  distill: "The teacher answers under the student's guidelines; the student learns its answers.",
  iterate: 'The student answers, is corrected and tries again; it learns what passed.',
  evolve: 'The student learns to prefer its better answers. No strong model is asked.',
}
export const PHASES = Object.keys(PHASE_WORDS) as Phase[]
export const GUIDANCE: Record<Schemas['Guidance'], string> = {
  auto: 'decided by the pilot',
  weak: 'always',
  none: 'never',
  best: 'the better answer of each question',
}

export type GraderKind = Schemas['GraderKindObject']

/** Graders that need no settings. value: as the API takes it. */
const PLAIN: Record<string, { label: string; about: string; value: unknown }> = {
  chrf: { label: 'chrF', about: 'How many pieces of words agree; for short free texts and commands.', value: 'chrf' },
  rouge_l: { label: 'ROUGE-L', about: 'The longest common run of words; for long free texts.', value: 'rouge_l' },
  string_check: { label: 'Same text', about: 'Right or wrong; for labels and fixed answers.', value: 'string_check' },
  contains: { label: 'Contains the reference', about: 'Right if the reference stands in the answer.', value: 'contains' },
  first_token: { label: 'Same first word', about: 'Right if the first words agree; for choices.', value: 'first_token' },
  flags: { label: 'Same command options', about: 'How many options of a command line agree.', value: 'flags' },
  number: { label: 'Same number', about: 'The last number of the answer; for sums.', value: { type: 'number' } },
  json_equal: { label: 'Same JSON', about: 'Values agree, whatever the order of fields.', value: { type: 'json_equal' } },
  code_tests: { label: 'Passes tests', about: 'The reference is code that tests the answer.', value: { type: 'code_tests' } },
}
/** Graders whose settings are written as JSON: what to begin with. */
const SET: Record<string, { label: string; about: string; value: unknown }> = {
  sql_result: { label: 'Same query result', about: 'Right if the query returns what the reference returns.', value: { type: 'sql_result', database: '@schema.sql' } },
  regex_equal: { label: 'Same regular expression', about: 'Right if both match the same texts.', value: { type: 'regex_equal' } },
  json_schema: { label: 'Fits a JSON schema', about: 'Right if the answer fits the schema.', value: { type: 'json_schema', schema: { type: 'object' } } },
  text_similarity: { label: 'Similar text', about: 'A measure of similarity of your choice.', value: { type: 'text_similarity', name: 'similar', input: '{{sample.output_text}}', reference: '{{item.reference}}', evaluation_metric: 'rouge_l' } },
  python: { label: 'Your Python', about: 'A function that scores the answer, in a sandbox.', value: { type: 'python', source: 'def grade(sample, item):\n    return 1.0' } },
  endpoint: { label: 'Your HTTP service', about: 'A service of yours scores the answers.', value: { type: 'endpoint', url: 'https://' } },
  score_model: { label: 'A model gives a score', about: 'A strong model is asked for a number; each answer costs a call.', value: { type: 'score_model' } },
  label_model: { label: 'A model gives a label', about: 'A strong model is asked for a label; each answer costs a call.', value: { type: 'label_model' } },
  multi: { label: 'A formula over graders', about: 'Several graders in one score.', value: { type: 'multi', graders: {}, calculate_output: '' } },
}

export interface GraderChoice {
  id: string
  label: string
  about: string
  /** Its settings are JSON in the form; this is what they begin with. */
  json: string | null
  /** Why it cannot be used here. */
  lacks: string | null
}

/** What can be chosen. kinds: of the API; null while nobody knows, or where the key may not see them. */
export function graderChoices(kinds: GraderKind[] | null): GraderChoice[] {
  if (!kinds) return Object.entries(PLAIN).map(([id, { label, about }]) => ({ id, label, about, json: null, lacks: null }))
  return kinds.map(({ id, type, package: from, available, unavailable_because }) => {
    const own = type === 'plugin' ? undefined : (PLAIN[id] ?? SET[id])
    const json = id in PLAIN && own ? null : JSON.stringify(own?.value ?? (type === 'plugin' ? { type, plugin: id } : { type: id }), null, 2)
    const about = own?.about ?? (from ? `Of the package ${from}.` : 'See the API reference.')
    return { id, label: own?.label ?? id, about, json, lacks: available === false ? (unavailable_because ?? 'not here') : null }
  })
}

/** A grader with settings of which the form knows nothing more. */
export const OTHER = 'other'

/** Whether its settings stand in the form as JSON. */
export const isWritten = (grader: string): boolean => !(grader in PLAIN)

export interface JobForm {
  file: string
  model: string
  suffix: string
  domain: string
  grader: string
  /** The grader as JSON, where it has settings. */
  otherGrader: string
  passMark: number
  phases: Phase[]
  guidance: Schemas['Guidance']
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
  /** How a promoted version is tried beside the served one; null: it is served at once. */
  canary: CanaryWish | null
  seed: number
  /** Further settings as JSON, laid under those of the form. */
  advanced: string
}

export const EMPTY: JobForm = {
  file: '', model: '', suffix: 'expert', domain: '', grader: 'chrf', otherGrader: '', passMark: 0.6,
  phases: [...PHASES], guidance: 'auto', strategy: 'critique', rounds: 1, tries: 3, answerTokens: 256, provider: 'default', ground: true,
  judge: 'default', maxUsd: null, maxCalls: null, onExceed: 'pause', pauseAfter: '', canary: null, seed: 0, advanced: '',
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
  if (!isWritten(form.grader)) return PLAIN[form.grader]?.value
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
    ...(form.canary && { canary: canaryTerms(form.canary) }),
  }
  const own = { model: form.model, training_file: form.file, suffix: form.suffix, seed: form.seed, distillation }
  return merged(whole, own) as unknown as JobRequest
}

/** The form for a job that stands in a file: its fields where the form has them, all of it as further settings. */
export function formOf(job: Json): JobForm {
  const spec = isObject(job['distillation']) ? job['distillation'] : {}
  const part = (name: string): Json => (isObject(spec[name]) ? spec[name] : {})
  const metric = spec['primary_metric'] ?? 'chrf'
  const plain = Object.keys(PLAIN).find((id) => JSON.stringify(PLAIN[id]?.value) === JSON.stringify(metric))
  const kind = isObject(metric) && metric['type'] !== 'plugin' ? metric['type'] : isObject(metric) ? metric['plugin'] : metric
  const { model: _model, ...rest } = job
  return {
    ...EMPTY,
    suffix: text(job['suffix'], EMPTY.suffix),
    seed: number(job['seed'], 0),
    domain: text(spec['domain'], ''),
    grader: plain ?? (typeof kind === 'string' && isWritten(kind) ? kind : OTHER),
    otherGrader: plain ? EMPTY.otherGrader : JSON.stringify(metric, null, 2),
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
  return mine.length ? mine.map((item) => itemWords(item, false)).join(' ') : null
}

/** Whether the largest training fits beside the student's engine. */
export function fitWords(fit: Schemas['DeviceFit']): string {
  const gb = (value: number) => `${value.toFixed(1)} GB`
  const device = fit.device === 'gpu' ? 'on the GPU' : 'in the memory of the machine'
  const engine = fit.engine_gb ? ` beside the ${gb(fit.engine_gb)} of the engine` : ''
  return `The largest training takes at least ${gb(fit.training_gb)}; it ${fit.fits ? 'fits' : 'does not fit'}${engine} ${device}, which has ${gb(fit.device_gb)}.`
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
