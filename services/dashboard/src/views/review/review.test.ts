import { describe, expect, it } from 'vitest'
import type { Schemas } from '../../lib/api/client'
import { agreementOf, beside, LEAST, narrowing, trustOf, wilson, type Both, type Label } from './agreement'
import { chance, keyOf, pairsOf, queueOf, swapped, type Pair, type Reason, type Side } from './pairs'

type Outcome = Schemas['OutcomeObject']
const measured = (student: string, answer: string, score: number) => ({ student, answer, scores: { chrf: score, exact: 1 - score } })
const judged = (first: string, second: string, winner: Side, turned = false, parsed = true) => ({ step: 's', over: 'b-over-a', first, second, winner, turned, parsed })
const outcome = (id: string, more: object) => ({ id, question: `Q ${id}`, characters: 1, ...more }) as Outcome
const pair = (n: number, reason: Reason, judge: Side | null = 'first'): Pair => ({ id: `${n}`, question: `Q${n}`, reference: null, first: 'a', second: 'b', judge, grader: 'first', reason })
const label = (n: number, preferred: Side, turn = false): Label => ({ id: `l${n}`, created_at: n, question: `Q${n}`, first: turn ? 'b' : 'a', second: turn ? 'a' : 'b', preferred })

describe('pairs', () => {
  it('say why they are worth a look', () => {
    const answers = { measured: [measured('base', 'x', 0.2), measured('evolve', 'y', 0.9)] }
    const reasons = pairsOf(
      [
        outcome('1', { ...answers, judged: [judged('x', 'y', 'first')] }),
        outcome('2', { ...answers, judged: [judged('x', 'y', 'tie', true)] }),
        outcome('3', { ...answers, judged: [judged('x', 'y', 'tie')] }),
        outcome('4', { ...answers, judged: [judged('x', 'y', 'second')] }),
        outcome('5', answers),
        outcome('6', { measured: [measured('base', 'x', 1), measured('evolve', ' x', 1)] }),
        outcome('7', { ...answers, judged: [judged('x', 'y', 'tie', false, false)] }),
      ],
      'chrf',
    ).map(({ id, reason }) => `${id} ${reason}`)
    expect(reasons).toEqual(['1 disagree', '2 turned', '3 undecided', '4 agree', '5 differ', '7 turned'])
  })

  it('come telling ones first, all of them once, without those that are done', () => {
    const pairs = [...Array(12).keys()].map((n) => pair(n, n < 8 ? 'agree' : 'disagree'))
    const queue = queueOf(pairs, new Set())
    expect(queue.slice(0, 4).map(({ reason }) => reason)).toEqual(['disagree', 'disagree', 'disagree', 'agree'])
    expect(new Set(queue.map(keyOf)).size).toBe(12)
    expect(queueOf(pairs, new Set([keyOf(pairs[9] as Pair)]))).toHaveLength(11)
  })

  it('stand on either side about as often, and stay there', () => {
    const sides = [...Array(400).keys()].map((n) => swapped(pair(n, 'agree'), 'session'))
    expect(sides.filter(Boolean).length).toBeGreaterThan(160)
    expect(sides.filter(Boolean).length).toBeLessThan(240)
    expect(swapped(pair(1, 'agree'), 'session')).toBe(sides[1])
    expect(chance('a')).not.toBe(chance('b'))
  })
})

describe('agreement with people', () => {
  it("reads a label in its own order, and a missing verdict as the judge's fault", () => {
    const pairs = [pair(1, 'agree'), pair(2, 'turned', null), pair(3, 'differ', null)]
    const rows = beside([label(2, 'tie'), label(1, 'second', true), label(3, 'tie'), label(9, 'tie')], pairs, 'judge')
    expect(rows).toEqual([{ people: 'second', other: 'second', reason: 'agree' }, { people: 'tie', other: 'none', reason: 'turned' }])
  })

  it("is Cohen's kappa where labels are drawn evenly", () => {
    const rows: Both[] = [...Array(10).keys()].map((n) => ({ people: n < 5 ? 'first' : 'second', other: n < 4 || n === 9 ? 'first' : 'second', reason: 'agree' }))
    const result = agreementOf(rows, [pair(1, 'agree')])
    expect(result?.share[0]).toBeCloseTo(0.8)
    expect(result?.kappa?.[0]).toBeCloseTo(0.6)
    expect(result?.chance).toBeCloseTo(0.5)
  })

  it('counts each kind of pair as it is frequent, not as it was labelled', () => {
    const pairs = [...Array(90).keys()].map((n) => pair(n, 'agree')).concat([...Array(10).keys()].map((n) => pair(100 + n, 'disagree')))
    const wrong: Both[] = Array(10).fill({ people: 'first', other: 'second', reason: 'disagree' })
    const right: Both[] = Array(10).fill({ people: 'first', other: 'first', reason: 'agree' })
    const [share, low, high] = agreementOf([...wrong, ...right], pairs)?.share ?? []
    expect(share).toBeCloseTo(0.9)
    const even = wilson(0.9, 20)
    expect((high as number) - (low as number)).toBeGreaterThan(even[1] - even[0]) // uneven weights are worth fewer labels
  })

  it('is never certain of a few labels', () => {
    expect(wilson(1, 5)[0]).toBeLessThan(0.6)
    expect(agreementOf([], [])).toBeNull()
  })

  it('narrows with labels, and tells how many more it takes', () => {
    const pairs = [pair(1, 'agree')]
    const rows: Both[] = [...Array(60).keys()].map((n) => ({ people: n % 2 ? 'first' : 'second', other: (n * 7) % 10 < 8 ? (n % 2 ? 'first' : 'second') : 'tie', reason: 'agree' }))
    const { x, low, high } = narrowing(rows, pairs)
    const width = (n: number) => (high[n] as number) - (low[n] as number)
    expect(x[0]).toBe(5)
    expect(width(55)).toBeLessThan(width(0))
    expect(trustOf(agreementOf(rows.slice(0, 8), pairs), 'the judge').words).toBe(`${LEAST - 8} more labels, and it shows whether the judge can be trusted`)
    expect(trustOf(agreementOf(rows, pairs), 'the judge').tone).toBe('good')
    const guess: Both[] = [...Array(40).keys()].map((n) => ({ people: n % 2 ? 'first' : 'second', other: n % 20 < 11 ? (n % 2 ? 'first' : 'second') : 'tie', reason: 'agree' }))
    expect(trustOf(agreementOf(guess, pairs), 'the judge').words).toMatch(/^about \d+ more labels/)
  })
})
