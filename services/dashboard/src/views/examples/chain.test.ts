import { describe, expect, it } from 'vitest'
import { chaptersOf, type Lineage } from './chain'

const link = (step: string, kind: string, given: object, made: object | null, more: object = {}) => ({ step, kind, finished_at: 1, given, made, ...more })
const lineage = (chain: object[], models: object[] = []) => ({ chain, models, adapters: [] }) as unknown as Lineage
const only = (one: object, models: object[] = []) => chaptersOf(lineage([one], models))[0]?.links[0]

describe('the chain of an example', () => {
  it('stands in chapters, by phase, in time', () => {
    const chapters = chaptersOf(
      lineage([
        link('distill/guidelines/0', 'weak.guide', {}, { guideline: 'Be brief.' }, { student: 'base' }),
        link('distill/answers/0', 'strong.teach', { reference: 'a b' }, { answer: 'a c', outcome: 'ok' }),
        link('iterate/1/try-2/answers/0', 'weak.reason', { critique: 'no', previous: 'x' }, { answer: 'y', rationale: 'r' }),
      ]),
    )
    expect(chapters.map(({ name, links }) => [name, links.map(({ title }) => title)])).toEqual([
      ['distill', ['Guideline', 'Teacher response']],
      ['iterate', ['Try 2, round 1']],
    ])
    expect(chapters[0]?.links[1]?.texts).toEqual([{ label: 'answer', text: 'a c', before: 'a b', against: 'the reference' }])
    expect(chapters[1]?.links[0]?.texts.map(({ label }) => label)).toEqual(['the hint it got', 'rationale', 'answer'])
  })

  it('says what was judged and by whom', () => {
    const verdict = only(link('iterate/1/try-1/verdicts/0', 'judge.review', {}, { passed: false, by: 'grader', critique: 'c', leaked: true }))
    expect(verdict).toMatchObject({ title: 'Verdict of try 1, round 1', verdict: { tone: 'bad', text: 'not passed, by the grader; its hint held the reference and was dropped' } })
    const comparison = only(link('evaluate/test/a-over-base/preferences/0', 'judge.compare', { first: 'x', second: 'y' }, { winners: { overall: 'tie' }, flipped: ['overall'] }))
    expect(comparison?.verdict).toEqual({ tone: 'warn', text: 'a tie: the verdict turned with the order' })
    expect(comparison?.title).toBe('Comparison, test, a-over-base')
  })

  it('names the versions that learned it, and the student by its version', () => {
    const models = [{ adapter: 'abcdef0123', model: 'shell@2' }]
    const learned = only(link('evolve/1/train', 'train.prefer', { chosen: 'a', rejected: 'b' }, null, { adapter: 'abcdef0123', student: 'abcdef0123' }), models)
    expect(learned).toMatchObject({ title: 'Learned as a pair, turn 1', made: ['shell@2'], who: 'shell@2', verdict: null })
    expect(learned?.texts.map(({ text }) => text)).toEqual(['b', 'a'])
  })

  it('tells that a step has no result for it', () => {
    expect(only(link('evolve/1/search', 'train.search', {}, null))?.verdict?.text).toBe('the step has no result for it')
  })

  it('reads what it does not know without failing', () => {
    expect(only(link('new/thing', 'weak.dream', {}, { answer: 5 }))).toMatchObject({ title: 'dream', texts: [] })
  })
})
