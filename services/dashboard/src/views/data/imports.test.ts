import { expect, test } from 'vitest'
import { importRequest, isComplete, startingImport } from './imports'

test('an import holds what its source takes, and nothing of another one', () => {
  const wish = { ...startingImport(), dataset: ' owner/name ', domain: 'law', file: 'file-1', limit: 50, dollars: 2 }
  expect(importRequest(wish)).toEqual({ source: { type: 'hub', dataset: 'owner/name', split: 'train', skip_bad: true, limit: 50 } })
  expect(importRequest({ ...wish, type: 'documents', mask: true })).toEqual({
    source: { type: 'documents', domain: 'law', questions: 200 }, file: 'file-1', mask: true, budget: { max_usd: 2 },
  }) // prettier-ignore
})

test('it starts once what its source needs is there', () => {
  const wish = startingImport()
  expect(isComplete(wish)).toBe(false)
  expect(isComplete({ ...wish, dataset: 'a/b' })).toBe(true)
  expect(isComplete({ ...wish, type: 'documents', domain: 'law' })).toBe(false)
  expect(isComplete({ ...wish, type: 'documents', domain: 'law', file: 'file-1' })).toBe(true)
  expect(isComplete({ ...wish, type: 'generate', domain: 'law', count: null })).toBe(false)
})
