/** What became of an example, in words, and the filters of the list. Pure. */

import type { Schemas } from '../../lib/api/client'
import { count, plural, words } from '../../lib/format'
import { parseKey } from '../../lib/job'

export type Outcome = Schemas['OutcomeObject']
export type Happened = Schemas['Happened']
export type Tone = 'good' | 'bad' | 'warn' | 'plain'

export interface Fact {
  tone: Tone
  text: string
}

export const FILTERS: { value: Happened; label: string }[] = [
  { value: 'failed', label: 'failed in phase 2' },
  { value: 'passed', label: 'passed in phase 2' },
  { value: 'turned', label: 'the judge disagreed with itself' },
  { value: 'dropped', label: 'dropped' },
  { value: 'learned', label: 'learned' },
  { value: 'measured', label: 'measured on dev or test' },
]

const WHY: Record<string, string> = {
  refused: 'the provider refused it',
  empty: 'the text is empty',
  cut_off: 'the text was cut off',
  too_long: 'it does not fit the context',
  no_rationale: 'the rationale is missing',
  identical: 'both sides are the same',
  checks: 'it repeats its input, is in another language, or is nearly there already',
}
export const why = (reason: string): string => WHY[reason] ?? words(reason)

const BY: Record<string, string> = {
  grader: 'by the grader', judge: 'by the judge', unparsed: 'the judge gave no verdict', unanswered: 'the question is too long', cut_off: 'cut off', nobody: 'nobody could say',
} // prettier-ignore
export const by = (who: string): string => BY[who] ?? words(who)

/** "iterate, round 2". */
export function placeOf(step: string): string {
  const { phase, round } = parseKey(step)
  return round === null ? phase : `${phase}, ${phase === 'evolve' ? 'turn' : 'round'} ${round}`
}

export function factsOf(outcome: Outcome): Fact[] {
  const facts: Fact[] = (outcome.dropped ?? []).map((one) => ({ tone: 'warn', text: `dropped in ${one.phase}: ${why(one.why)}` }))
  const rounds = new Map<number, NonNullable<Outcome['tries']>>()
  for (const one of outcome.tries ?? []) rounds.set(one.round, [...(rounds.get(one.round) ?? []), one])
  for (const [round, tries] of rounds) {
    const drawn = tries.find((one) => one.samples != null)
    const attempts = tries.filter((one) => one.attempt != null)
    const passed = attempts.find((one) => one.passed)
    if (drawn) facts.push({ tone: drawn.passed ? 'good' : 'bad', text: `round ${round}: ${drawn.passing ?? 'nobody says how many'} of ${drawn.samples} samples pass` })
    if (passed) facts.push({ tone: 'good', text: `round ${round}: passed at try ${passed.attempt}` })
    else if (attempts.length) facts.push({ tone: 'bad', text: `round ${round}: failed, ${plural(attempts.length, 'try', 'tries')}` })
  }
  const learned = [...new Set((outcome.learned ?? []).map(placeOf))]
  if (learned.length) facts.push({ tone: 'plain', text: `learned in ${learned.join('; ')}` })
  if (outcome.judged?.some((one) => one.turned)) facts.push({ tone: 'warn', text: 'a verdict of the judge turned with the order' })
  const measured = outcome.measured?.length ?? 0
  if (measured) facts.push({ tone: 'plain', text: `answered by ${plural(measured, 'student')}` })
  return facts
}

export const sizeOf = (outcome: Outcome): string => `${count(outcome.characters)} characters`

export interface Query {
  split?: 'train' | 'dev' | 'test'
  happened?: Happened
  round?: number
  attempt?: number
  search?: string
  order?: 'longest'
}

/** The filters of the address that the API knows. */
export function queryOf(address: URLSearchParams): Query {
  const number = (name: string) => {
    const value = Number(address.get(name))
    return Number.isInteger(value) && value > 0 && value <= 1000 ? value : undefined
  }
  const split = (['train', 'dev', 'test'] as const).find((one) => one === address.get('split'))
  const happened = FILTERS.find(({ value }) => value === address.get('happened'))?.value
  const search = address.get('search')?.trim().slice(0, 200)
  const tries = happened === 'failed' || happened === 'passed'
  const round = tries ? number('round') : undefined
  const attempt = happened === 'passed' ? number('attempt') : undefined
  return {
    ...(split && { split }),
    ...(happened && { happened }),
    ...(round && { round }),
    ...(attempt && { attempt }),
    ...(search && { search }),
    ...(address.get('order') === 'longest' && { order: 'longest' as const }),
  }
}
