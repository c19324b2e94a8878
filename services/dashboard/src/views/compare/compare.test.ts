import { describe, expect, it } from 'vitest'
import type { Job } from '../../lib/job'
import { gainOf, recordOf, rowsOf, shownOf, studentsOf, type Outcome } from './questions'
import { differing } from './settings'

const job = (more: object, distillation: object) => ({ model: 'tiny', seed: 1, ...more, distillation }) as unknown as Job

describe('settings', () => {
  it('that differ are named with their place, others are left out', () => {
    const jobs = [
      job({}, { domain: 'sums', iterate: { rounds: 2, tries: 3 }, usage: { teacher_calls: 9 }, phases: ['distill'] }),
      job({ seed: 2 }, { domain: 'sums', iterate: { rounds: 4 }, usage: { teacher_calls: 1 }, phases: ['distill', 'evolve'] }),
    ]
    expect(differing(jobs)).toEqual([
      { name: 'iterate.rounds', values: ['2', '4'] },
      { name: 'iterate.tries', values: ['3', '–'] },
      { name: 'phases', values: ['["distill"]', '["distill","evolve"]'] },
      { name: 'seed', values: ['1', '2'] },
    ])
  })
  it('of one job do not differ', () => expect(differing([job({}, { domain: 'a' })])).toEqual([]))
})

const outcome = (question: string, measured: [string, string, number | null][]) =>
  ({ id: question, question, characters: 1, measured: measured.map(([student, answer, score]) => ({ student, answer, scores: score === null ? {} : { chrf: score } })) }) as unknown as Outcome

describe('questions', () => {
  const left = [outcome('a', [['base', 'x', 0.2]]), outcome('b', [['base', 'y', 1]]), outcome('c', [['base', 'z', 0.5]]), outcome('d', [])]
  const right = [outcome('c', [['evolve', 'z', 0.5]]), outcome('b', [['evolve', 'w', 0.9]]), outcome('a', [['evolve', 'v', 1]]), outcome('e', [['evolve', '', 1]])]
  const rows = rowsOf(left, 'base', right, 'evolve', 'chrf')

  it('are those that both have answered, the greatest differences first', () => {
    expect(rows.map(({ question }) => question)).toEqual(['a', 'b', 'c'])
    expect(studentsOf(left)).toEqual(['base'])
    expect(recordOf(rows)).toEqual({ win: 1, tie: 1, loss: 1 })
  })
  it('are shown by what differs', () => {
    expect(shownOf(rows, 'scores')).toHaveLength(2)
    expect(shownOf(rows, 'right').map(({ question }) => question)).toEqual(['a'])
    expect(shownOf(rows, 'left').map(({ question }) => question)).toEqual(['b'])
    expect(shownOf(rows, 'answers')).toHaveLength(2)
    expect(shownOf(rows, 'all')).toHaveLength(3)
  })
  it('without scores have answers alone', () => {
    const [row] = rowsOf([outcome('a', [['base', 'x', null]])], 'base', right, 'evolve', 'chrf')
    expect(row).toMatchObject({ gain: null, left: { score: null } })
    expect(recordOf(row ? [row] : [])).toEqual({ win: 0, tie: 0, loss: 0 })
  })
  it('show a paired gain with its interval, or none where they are few', () => {
    expect(gainOf(rows)).toBeNull()
    const many = Array.from({ length: 100 }, (_, n) => ({ ...rows[0], gain: n % 2 ? 1 : 0 })) as typeof rows
    const [mean, low, high] = gainOf(many) ?? []
    expect(mean).toBeCloseTo(0.5)
    expect((high as number) - (low as number)).toBeCloseTo(2 * 1.96 * 0.0503, 2)
  })
})
