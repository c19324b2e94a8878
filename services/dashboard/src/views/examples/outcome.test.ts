import { describe, expect, it } from 'vitest'
import { factsOf, queryOf, type Outcome } from './outcome'

const outcome = (more: Partial<Outcome>) => ({ id: 'row-1', question: 'Q', characters: 9, ...more }) as Outcome
const tried = (round: number, attempt: number, passed: boolean) => ({ round, attempt, passed, by: 'grader', samples: null, passing: null })

describe('what became of an example', () => {
  it('tells tries by round', () => {
    const facts = factsOf(outcome({ tries: [tried(1, 1, false), tried(1, 2, true), tried(2, 1, false)] }))
    expect(facts.map(({ text }) => text)).toEqual(['round 1: passed at try 2', 'round 2: failed, 1 try'])
  })
  it('tells samples that were drawn at once', () => {
    const tries = [{ round: 1, attempt: null, passed: true, by: 'grader', samples: 8, passing: 3 }]
    expect(factsOf(outcome({ tries }))).toEqual([{ tone: 'good', text: 'round 1: 3 of 8 samples pass' }])
  })
  it('tells what was dropped and what learned it, each once', () => {
    const facts = factsOf(outcome({ dropped: [{ phase: 'distill', why: 'refused' }], learned: ['iterate/1/train', 'iterate/2/train', 'distill/train'] }))
    expect(facts.map(({ text }) => text)).toEqual([
      'dropped in distill: the provider refused it',
      'learned in iterate, round 1; iterate, round 2; distill',
    ])
  })
  it('has nothing to tell of an example that no step has read', () => {
    expect(factsOf(outcome({}))).toEqual([])
  })
})

describe('filters of the address', () => {
  it('go to the API where they mean something', () => {
    expect(queryOf(new URLSearchParams('happened=failed&round=2&split=train&search= ls '))).toEqual({ happened: 'failed', round: 2, split: 'train', search: 'ls' })
  })
  it('are left out where they mean nothing', () => {
    expect(queryOf(new URLSearchParams('happened=eaten&round=2&split=all&attempt=x&order=shortest'))).toEqual({})
    expect(queryOf(new URLSearchParams('happened=passed&attempt=3&round=-1&order=longest'))).toEqual({ happened: 'passed', attempt: 3, order: 'longest' })
  })
})
