/** The parts of a job's report that pages show. shared/contracts/report.py defines all of it. */

/** [value, low, high] of a 95 % interval. */
export type Triple = [number, number, number]
export type Decision = 'promoted' | 'undecided' | 'rejected'

export interface WinRecord {
  win: number
  tie: number
  loss: number
}

export interface TableRow {
  name: string
  n: number
  metrics: Record<string, Triple>
  gain_over_base: Triple
  against_base: WinRecord | null
  too_long: number
  cut_off?: number | null
}

export interface PhaseDecision {
  phase: string
  decision: Decision
  gain_on_dev: Triple
  against?: string
  n?: number
  record?: WinRecord | null
}

export interface Training {
  loss_first?: number
  loss?: number
  margin_first?: number
  margin?: number
  reward_accuracy?: number
}

export interface Round {
  questions: number
  passed: number
  corrected: number
  pass_rate: number[]
  sampled?: { pass_at: Record<string, number>; samples: number } | null
  training?: Training | null
}

export interface Report {
  domain: string
  student: string
  primary_metric: string
  rows: Record<string, number>
  warnings: string[]
  table: TableRow[]
  final: { name: string; over: Record<string, Triple>; record: Record<string, WinRecord> }
  verdict: { words: string; beats_base: boolean } | null
  decisions: PhaseDecision[]
  judge: { rests_on_it: string[]; decides: boolean; warnings: string[]; labels: { n: number; kappa: number | null; agreement: Triple; flip_rate: Triple } | null } | null
  judged: { n: number; criteria: Record<string, WinRecord & { share: Triple }>; judge: { flip_rate: Triple; n: number } } | null
  promotion: {
    state: Decision
    against: string
    model: string | null
    gain: Triple | null
    n?: number
    record?: WinRecord | null
    compared_with?: string | null
    served_meanwhile?: string | null
    forgetting: { n: number; base: Triple; final: Triple; change: Triple; guarded: boolean } | null
  }
  power: { n: number; chance_to_see_5_points: number; chance_by_measured_spread: number | null; questions_for_80_percent: number | null }
  phases: {
    pilot?: {
      questions: number
      usable: Record<string, number>
      guidance: string
      gain?: Triple | null
      decision?: Decision | null
      student_nll?: { n: number; unguided: number | null; guided: number | null; change: Triple | null } | null
    }
    distill?: { questions: number; kept: number; dropped: Record<string, number>; training?: Training }
    iterate?: { rounds: Round[] }
    evolve?: { turns: { strategy: string; questions: number; pairs: number; dropped: Record<string, number>; training?: Training | null }[] }
  }
  samples: { question: string; reference: string | null; base: string; final: string }[]
}

export const MODEL_NAMES: Record<string, string> = {
  base: 'base',
  few_shot: 'base, random examples in its prompt',
  few_shot_nearest: 'base, most similar examples in its prompt',
  sft_references: 'SFT on the references, no teacher',
  distill: 'after phase 1, distill',
  iterate: 'after phase 2, iterate',
  evolve: 'after phase 3, evolve',
}
export const nameOf = (model: string): string => MODEL_NAMES[model] ?? model

/** What was published, and whether its alias serves it. */
export function publishedWords({ model, state, served_meanwhile }: Report['promotion']): string {
  if (!model) return 'no version was published'
  const alias = model.split('@')[0]
  if (state !== 'promoted') return `published as ${model}, which is not served as ${alias}`
  if (served_meanwhile) return `published as ${model}; ${alias} served ${served_meanwhile} by then, with which it was not compared, so promote it by hand if it is to be served`
  return `published as ${model}`
}

/** "25 won, 9 tied, 6 lost". */
export const recordWords = (record: WinRecord): string => `${record.win} won, ${record.tie} tied, ${record.loss} lost`

/** Why a phase's student is or is not built upon. */
export function decisionWords(decision: PhaseDecision, metric: string): string {
  const [, low, high] = decision.gain_on_dev
  const against = decision.against ? nameOf(decision.against) : 'the student before'
  const on = decision.n ? ` on ${decision.n} questions of dev` : ' on dev'
  const why =
    low > 0
      ? `the whole interval of the gain in ${metric} over ${against}${on} lies above zero`
      : high < 0
        ? `the whole interval of the change in ${metric} from ${against}${on} lies below zero`
        : `the interval of the gain in ${metric} over ${against}${on} contains zero: no difference was measured`
  return `${why}${decision.record ? ` (${recordWords(decision.record)})` : ''}`
}
