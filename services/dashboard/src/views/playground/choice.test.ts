import { describe, expect, it } from 'vitest'
import type { Schemas } from '../../lib/api/client'
import type { Job } from '../../lib/job'
import { chosenOf, graderOf, jobFor, offersOf } from './choice'

const model = (id: string, version?: number, parent = 'tiny') =>
  ({ id, version: version ?? null, parent: version ? parent : null }) as Schemas['ModelObject']
const MODELS = [model('tiny'), model('shell', 2), model('shell@2', 2), model('shell@1', 1)]

describe('what is asked', () => {
  it('is the newest alias beside its base at first', () => {
    expect(chosenOf(null, MODELS)).toEqual(['tiny', 'shell'])
    expect(chosenOf('gone', MODELS)).toEqual(['tiny', 'shell'])
    expect(chosenOf(null, [model('tiny')])).toEqual(['tiny'])
  })
  it('puts the base beside the one model that the address names', () => {
    expect(chosenOf('shell@1', MODELS)).toEqual(['tiny', 'shell@1'])
    expect(chosenOf('shell@1,shell@2,shell@1', MODELS)).toEqual(['shell@1', 'shell@2'])
  })
  it('says what each name is', () => {
    expect(offersOf(MODELS).map(({ kind }) => kind)).toEqual(['base', 'served', 'version', 'version'])
  })
})

describe('the grader', () => {
  const job = (suffix: string, distillation: object) => ({ suffix, distillation }) as Job
  it('is the one that passes attempts, else the primary metric', () => {
    expect(graderOf(job('a', { judge: { grader: { type: 'number' }, pass_mark: 0.5 }, primary_metric: 'chrf' }))).toMatchObject({ name: 'number', passMark: 0.5 })
    expect(graderOf(job('a', { judge: { grader: null }, primary_metric: 'rouge_l' }))).toMatchObject({ grader: 'rouge_l', passMark: 1 })
  })
  it('is taken from the newest job of a chosen alias', () => {
    const jobs = [job('other', {}), job('shell', { n: 2 }), job('shell', { n: 1 })]
    expect(jobFor(['tiny', 'shell@1'], jobs)).toBe(jobs[1])
    expect(jobFor(['tiny'], jobs)).toBeUndefined()
  })
})
