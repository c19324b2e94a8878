import { describe, expect, test } from 'vitest'
import { startingCanary } from '../../lib/canary'
import { EMPTY, faultsOf, fitWords, formOf, graderChoices, missing, readJson, requestOf, type JobForm } from './form'

const FORM: JobForm = { ...EMPTY, file: 'file-1', model: 'tiny', domain: 'sums' }

describe('the request', () => {
  test('says what the form says', () => {
    const body = requestOf({ ...FORM, phases: ['evolve', 'distill'], grader: 'number', maxUsd: 5, pauseAfter: 'pilot' })
    expect(body).toMatchObject({ model: 'tiny', training_file: 'file-1', suffix: 'expert', seed: 0 })
    expect(body.distillation).toMatchObject({ domain: 'sums', phases: ['distill', 'evolve'], primary_metric: { type: 'number' }, judge: { grader: { type: 'number' } }, budget: { max_usd: 5, on_exceed: 'pause' }, pause_after: 'pilot' })
    expect(body.distillation).not.toHaveProperty('iterate')
  })

  test('says how the version is tried, if it is to be', () => {
    const canary = { ...startingCanary(), metric: 'feedback' as const, per: 'answer' as const, promote: true }
    expect(requestOf({ ...FORM, canary }).distillation.canary).toEqual({ goal: { metric: 'feedback', min_requests: 100, per: 'answer' }, steps: [5, 25, 50], promote: true })
    expect(requestOf(FORM).distillation).not.toHaveProperty('canary')
    expect(requestOf({ ...FORM, advanced: '{"canary": {"percent": 5}}' }).distillation.canary).toEqual({ percent: 5 })
  })

  test('has further settings, and the form stands over them', () => {
    const body = requestOf({ ...FORM, rounds: 2, advanced: '{"batch_size": 8, "iterate": {"rounds": 9, "keep": 2}}' })
    expect(body.distillation).toMatchObject({ batch_size: 8, iterate: { rounds: 2, keep: 2, tries: 3 } })
    const whole = requestOf({ ...FORM, advanced: '{"metadata": {"a": "b"}, "distillation": {"batch_size": 8}}' })
    expect(whole).toMatchObject({ metadata: { a: 'b' }, distillation: { batch_size: 8, domain: 'sums' } })
  })

  test('of a job in a file is the same job with this file and model', () => {
    const job = { model: 'other', suffix: 'shell', seed: 7, distillation: { domain: 'the shell', primary_metric: 'chrf', judge: { grader: 'chrf', pass_mark: 0.4, max_tokens: 64 }, iterate: { rounds: 2, tries: 2, epochs: 2 }, answer_tokens: 32 } }
    const body = requestOf({ ...formOf(job), file: 'file-2', model: 'tiny' })
    expect(body).toMatchObject({ model: 'tiny', training_file: 'file-2', suffix: 'shell', seed: 7 })
    expect(body.distillation).toMatchObject({ domain: 'the shell', answer_tokens: 32, judge: { pass_mark: 0.4, max_tokens: 64 }, iterate: { rounds: 2, tries: 2, epochs: 2 } })
    expect(formOf({ distillation: { primary_metric: { type: 'sql_result', database: 'x' } } }).grader).toBe('sql_result')
    expect(formOf({ distillation: { primary_metric: { type: 'plugin', plugin: 'own' } } }).grader).toBe('own')
  })
})

test('an estimate says whether the training fits on the device', () => {
  const fit = { device: 'gpu', device_gb: 24, engine_gb: 12.04, training_gb: 13, fits: false, remedy: 'Set adapter.method to lora.' } as const
  expect(fitWords(fit)).toBe('The largest training takes at least 13.0 GB; it does not fit beside the 12.0 GB of the engine on the GPU, which has 24.0 GB.')
  expect(fitWords({ ...fit, device: 'cpu', engine_gb: 0, fits: true })).toBe('The largest training takes at least 13.0 GB; it fits in the memory of the machine, which has 24.0 GB.')
})

test('what is missing is named', () => {
  expect(missing(FORM)).toEqual([])
  expect(missing({ ...EMPTY, phases: [] })).toHaveLength(4)
})

test('JSON that is no object is told', () => {
  expect(readJson(' ')).toEqual({ value: {} })
  expect(readJson('[1]')).toHaveProperty('problem')
  expect(readJson('{')).toHaveProperty('problem')
})

test('faults stand at their fields', () => {
  const items = [{ code: 'x', param: 'distillation.judge.grader', message: 'no such grader', remedy: 'name one' }, { code: 'y', param: 'distillation.judgement', message: 'other', remedy: '' }]
  expect(faultsOf(items, 'distillation.judge')).toBe('no such grader. name one')
  expect(faultsOf(items, 'model')).toBeNull()
})

describe('graders', () => {
  const kind = (id: string, more: object = {}) => ({ id, type: 'kind', available: true, ...more }) as Parameters<typeof graderChoices>[0] extends (infer K)[] | null ? K : never

  test('are those of the API, each with what it needs', () => {
    const told = graderChoices([kind('chrf'), kind('sql_result'), kind('new_one'), kind('own', { type: 'plugin', package: 'ours' }), kind('python', { available: false, unavailable_because: 'METEOR_SANDBOX is off' })])
    expect(told.map(({ id, json }) => [id, json && JSON.parse(json).type])).toEqual([['chrf', null], ['sql_result', 'sql_result'], ['new_one', 'new_one'], ['own', 'plugin'], ['python', 'python']])
    expect(told.map(({ lacks }) => lacks)).toEqual([null, null, null, null, 'METEOR_SANDBOX is off'])
    expect(told[3]?.about).toContain('ours')
  })

  test('without settings can be chosen while nobody knows the others', () => {
    expect(graderChoices(null).every(({ json, lacks }) => json === null && lacks === null)).toBe(true)
    expect(requestOf({ ...FORM, grader: 'own', otherGrader: '{"type": "plugin", "plugin": "own"}' }).distillation).toMatchObject({ primary_metric: { plugin: 'own' } })
  })
})
