/** How well a judge or a grader agrees with people, from labels that were not drawn evenly. Pure. */

import { keyOf, type Pair, type Reason, type Side } from './pairs'

export interface Label {
  id: string
  created_at: number
  question: string
  first: string
  second: string
  preferred: Side
}

/** A label beside what the other one says of the same pair, both as of the label's first and second answer. */
export interface Both {
  people: Side
  other: Side | 'none'
  reason: Reason
}

export interface Agreement {
  n: number
  /** The share of all pairs on which both say the same, with its 95 % interval. */
  share: [number, number, number]
  /** The most that somebody reaches who cannot tell the answers apart. */
  chance: number
  /** Cohen's kappa with its interval; null where all say the same. */
  kappa: [number, number, number] | null
}

export const LEAST = 20 // as in the API: with fewer a good judge cannot be told from chance
const Z = 1.959964
const SIDES = ['first', 'second', 'tie'] as const
const TURN: Record<Side, Side> = { first: 'second', second: 'first', tie: 'tie' }

/** The labels of these pairs, oldest first. who: what stands beside them. */
export function beside(labels: Label[], pairs: Pair[], who: 'judge' | 'grader'): Both[] {
  const known = new Map(pairs.map((pair) => [keyOf(pair), pair]))
  return [...labels]
    .sort((a, b) => a.created_at - b.created_at)
    .flatMap((label) => {
      const pair = known.get(keyOf(label))
      const said = pair?.[who]
      if (!pair || (said == null && (who === 'grader' || pair.reason !== 'turned'))) return []
      const other = said == null ? 'none' : pair.first === label.first ? said : TURN[said]
      return [{ people: label.preferred, other, reason: pair.reason }]
    })
}

/** The agreement over all pairs of the job: each kind of pair counts as it is frequent there, however many of it were labelled.
 *  The interval is Wilson's, for as many labels as the uneven weights are worth; chance is taken as it is estimated. */
export function agreementOf(rows: Both[], pairs: Pair[]): Agreement | null {
  if (!rows.length) return null
  const labelled = counted(rows.map(({ reason }) => reason))
  const all = counted(pairs.map(({ reason }) => reason))
  const weights = rows.map(({ reason }) => (all.get(reason) ?? 0) / (labelled.get(reason) ?? 1))
  const total = sum(weights)
  const share = (holds: (row: Both) => boolean) => sum(rows.map((row, n) => (holds(row) ? (weights[n] ?? 0) : 0))) / total
  const observed = share(({ people, other }) => people === other)
  const worth = total ** 2 / sum(weights.map((weight) => weight ** 2))
  const [low, high] = wilson(observed, worth)
  const expected = sum(SIDES.map((side) => share(({ people }) => people === side) * share(({ other }) => other === side)))
  const ties = share(({ people }) => people === 'tie')
  const beyond = (value: number) => (value - expected) / (1 - expected)
  return {
    n: rows.length,
    share: [observed, low, high],
    chance: Math.max(ties, (1 - ties) / 2),
    kappa: expected < 1 ? [beyond(observed), beyond(low), beyond(high)] : null,
  }
}

function counted(reasons: Reason[]): Map<Reason, number> {
  const counts = new Map<Reason, number>()
  for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1)
  return counts
}

const sum = (values: number[]): number => values.reduce((all, value) => all + value, 0)

/** Wilson's interval of a share. n need not be whole. */
export function wilson(share: number, n: number): [number, number] {
  const centre = (share + Z ** 2 / (2 * n)) / (1 + Z ** 2 / n)
  const half = (Z * Math.sqrt((share * (1 - share)) / n + Z ** 2 / (4 * n ** 2))) / (1 + Z ** 2 / n)
  return [Math.max(0, centre - half), Math.min(1, centre + half)]
}

export interface Curve {
  x: number[]
  kappa: (number | null)[]
  low: (number | null)[]
  high: (number | null)[]
}

/** Kappa after each label, from the fifth on. */
export function narrowing(rows: Both[], pairs: Pair[]): Curve {
  const curve: Curve = { x: [], kappa: [], low: [], high: [] }
  for (let n = 5; n <= rows.length; n++) {
    const [kappa, low, high] = agreementOf(rows.slice(0, n), pairs)?.kappa ?? [null, null, null]
    curve.x.push(n)
    curve.kappa.push(kappa)
    curve.low.push(low)
    curve.high.push(high)
  }
  return curve
}

export interface Trust {
  tone: 'good' | 'bad' | 'plain'
  words: string
}

const MOST_MORE = 2000

/** Whether it can be trusted, or how many labels will tell if it goes on as it does. */
export function trustOf(agreement: Agreement | null, who: string): Trust {
  const n = agreement?.n ?? 0
  if (!agreement || n < LEAST) return { tone: 'plain', words: `${LEAST - n} more labels, and it shows whether ${who} can be trusted` }
  const [share, low, high] = agreement.share
  if (low > agreement.chance) return { tone: 'good', words: `${who} is better than chance: its whole interval lies above it` }
  if (high < agreement.chance) return { tone: 'bad', words: `${who} cannot be trusted: its whole interval lies below chance` }
  for (let more = 1; more <= MOST_MORE; more++) {
    const [lower, upper] = wilson(share, n + more)
    if (lower > agreement.chance || upper < agreement.chance) return { tone: 'plain', words: `about ${more} more labels, and it shows whether ${who} can be trusted` }
  }
  return { tone: 'bad', words: `${who} is not told apart from chance, and ${MOST_MORE} more labels would hardly change it` }
}
