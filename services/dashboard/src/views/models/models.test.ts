import { expect, test } from 'vitest'
import { canaryWords, descent, earlierOf, evidenceWords, grouped, others, requestsWords, servedOf, stepWords, type Canary, type ModelObject } from './models'

const model = (id: string, more: Partial<ModelObject> = {}) => ({ id, created: 1, owned_by: 'p', parent: 'base', ...more }) as ModelObject
const LIST = [
  model('base', { parent: null }),
  model('shell@3', { version: 3, continues: 'shell@1' }), model('shell@2', { version: 2, continues: 'gone@9' }),
  model('shell', { version: 1 }), model('shell@1', { version: 1 }),
  model('sql@1', { version: 1 }),
] // prettier-ignore
const canary = (more: Partial<Canary> = {}) => ({ id: 'shell', alias: 'shell', served: 1, version: 2, percent: 10, shadow: false, created_at: 1, ...more }) as Canary

test('bases stand apart, and an alias has its versions and the one that is served', () => {
  const { bases, aliases } = grouped(LIST)
  expect(bases.map(({ id }) => id)).toEqual(['base'])
  expect(aliases.map(({ name, served, versions }) => [name, served, versions.length])).toEqual([['shell', 1, 3], ['sql', null, 1]]) // prettier-ignore
  expect(servedOf(aliases[0]!)?.id).toBe('shell@1')
  expect(others(aliases[0]!).map(({ id }) => id)).toEqual(['shell@3', 'shell@2'])
})

test('a roll back serves the newest promoted version before the served one', () => {
  const states = ['promoted', 'rejected', 'promoted', 'promoted'] // of versions 4 to 1
  const versions = states.map((state, n) => model(`a@${4 - n}`, { version: 4 - n, state } as Partial<ModelObject>))
  const before = (served: number | null) => earlierOf({ name: 'a', base: 'base', served, versions })?.id
  expect([4, 2, 1, null].map(before)).toEqual(['a@2', 'a@1', undefined, undefined])
})

test('each version stands below the one that it goes on from, and every one stands once', () => {
  const { aliases } = grouped(LIST)
  expect(descent(aliases[0]!.versions).map(({ version, depth }) => [version.id, depth])).toEqual([['shell@1', 0], ['shell@3', 1], ['shell@2', 0]]) // prettier-ignore
  const ring = [model('a@1', { version: 1, continues: 'a@2' }), model('a@2', { version: 2, continues: 'a@1' })]
  expect(descent(ring)).toHaveLength(2)
})

test('a canary says who answers whom, and how it ends', () => {
  expect(canaryWords(canary())).toContain('Version 2 answers 10 % of the conversations, version 1 the rest.')
  expect(canaryWords(canary({ shadow: true }))).toContain('whose answers are dropped')
  expect(canaryWords(canary({ goal: { metric: 'errors' }, promote: true }))).toContain('promoted if it does none')
  const standing = { step: 2, served: { requests: 5, loss: 0 }, canary: { requests: 1, loss: 0 } }
  expect(stepWords(canary({ steps: [5, 25, 50], standing }))).toBe('step 2 of 3: 5 %, 25 %, 50 %')
  expect(evidenceWords({ ...standing, harm: 0.4, gain: 0 })).toBe('evidence of harm 0.40, of a gain 0.00; at 1 it decides')
  expect(evidenceWords(standing)).toBe('no evidence yet')
  expect(requestsWords(canary({ goal: { metric: 'errors', per: 'user' }, standing }))).toContain('1 user of the canary')
  expect(requestsWords(canary({ goal: { metric: 'errors', per: 'answer' }, standing }))).toContain('1 answer of the canary')
})
