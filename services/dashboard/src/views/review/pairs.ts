/** Pairs of answers that people may judge, and which of them tells most. Pure. */

import type { Schemas } from '../../lib/api/client'

type Outcome = Schemas['OutcomeObject']
export type Side = 'first' | 'second' | 'tie'
/** Why a pair is worth a look; the first that holds. */
export type Reason = 'disagree' | 'turned' | 'undecided' | 'agree' | 'differ'

export interface Pair {
  id: string
  question: string
  reference: string | null
  first: string
  second: string
  judge: Side | null
  grader: Side | null
  reason: Reason
}

export const REASONS: Record<Reason, string> = {
  disagree: 'grader and judge disagree',
  turned: 'the judge turned with the order, or gave no verdict',
  undecided: 'one calls a tie, the other does not',
  differ: 'answers differ, and no judge has compared them',
  agree: 'grader and judge agree',
}
/** In a round of the queue so many pairs come of each kind: the telling ones more often, and of every kind some. */
const DEAL: [Reason, number][] = [['disagree', 3], ['turned', 2], ['undecided', 1], ['differ', 1], ['agree', 1]] // prettier-ignore

/** The pairs of a job: those that its judge compared, else the base's answers beside the last student's. metric: the deciding grader. */
export function pairsOf(outcomes: Outcome[], metric: string): Pair[] {
  return outcomes.flatMap((outcome) => {
    const scores = new Map((outcome.measured ?? []).map(({ answer, scores }) => [answer, scoreOf(scores ?? {}, metric)]))
    const one = (first: string, second: string, judge: Side | null, unsure: boolean): Pair => {
      const grader = graded(scores.get(first), scores.get(second))
      const reason = reasonOf(judge, grader, unsure)
      return { id: outcome.id, question: outcome.question, reference: outcome.reference ?? null, first, second, judge, grader, reason }
    }
    const judged = (outcome.judged ?? []).filter(({ first, second }) => first.trim() !== second.trim())
    if (judged.length) return unique(judged.map((row) => one(row.first, row.second, row.parsed ? row.winner : null, row.turned || !row.parsed)))
    const base = outcome.measured?.find(({ student }) => student === 'base')
    const last = outcome.measured?.at(-1)
    return base && last && base.answer.trim() !== last.answer.trim() ? [one(base.answer, last.answer, null, false)] : []
  })
}

function unique(pairs: Pair[]): Pair[] {
  return [...new Map(pairs.map((pair) => [keyOf(pair), pair])).values()]
}

const scoreOf = (scores: Record<string, number>, metric: string): number | undefined => scores[metric] ?? Object.values(scores)[0]

function graded(first: number | undefined, second: number | undefined): Side | null {
  if (first === undefined || second === undefined) return null
  return first > second ? 'first' : first < second ? 'second' : 'tie'
}

function reasonOf(judge: Side | null, grader: Side | null, unsure: boolean): Reason {
  if (unsure) return 'turned'
  if (judge === null) return 'differ'
  if (grader === null || judge === grader) return 'agree'
  return judge === 'tie' || grader === 'tie' ? 'undecided' : 'disagree'
}

/** The same two answers to a question, in any order. */
export const keyOf = ({ question, first, second }: { question: string; first: string; second: string }): string =>
  JSON.stringify([question, ...[first, second].sort()])

/** A number in [0, 1) that follows from a text: an order that is random and stays. */
export function chance(text: string): number {
  let hash = 2166136261
  for (let n = 0; n < text.length; n++) hash = Math.imul(hash ^ text.charCodeAt(n), 16777619)
  hash = Math.imul(hash ^ (hash >>> 15), 2246822507)
  hash = Math.imul(hash ^ (hash >>> 13), 3266489909)
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32
}

/** What is left to judge: dealt by kind, within a kind in random order, so that each kind's labels stand for all of its pairs. */
export function queueOf(pairs: Pair[], done: Set<string>): Pair[] {
  const left = new Map<Reason, Pair[]>()
  const mixed = pairs.map((pair) => ({ pair, place: chance(keyOf(pair)) })).sort((a, b) => a.place - b.place)
  for (const { pair } of mixed) {
    const own = left.get(pair.reason)
    if (own) own.push(pair)
    else left.set(pair.reason, [pair])
  }
  const queue: Pair[] = []
  while (queue.length < pairs.length) for (const [reason, count] of DEAL) queue.push(...(left.get(reason)?.splice(0, count) ?? []))
  return queue.filter((pair) => !done.has(keyOf(pair)))
}

/** Whether the second answer stands on the left: the same for a pair in a session, and not to be guessed. */
export const swapped = (pair: Pair, session: string): boolean => chance(session + keyOf(pair)) < 0.5
