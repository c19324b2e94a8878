import { expect, test } from 'vitest'
import {
  changedFields, columnsOf, draftWords, editOf, emptyDraft, fieldsOf, fill, isEmpty, language, newestVersions, newRow, parts, splitWords, summary,
  versionRequest, type FileObject, type Preview, type RowChange,
} from './data' // prettier-ignore

const file = (id: string, more: Partial<FileObject> = {}) =>
  ({ id, filename: `${id}.jsonl`, purpose: 'fine-tune', status: 'processed', bytes: 1, created_at: 1, ...more }) as FileObject

test('of each dataset the newest version stands, other files all', () => {
  const files = [file('c', { dataset: 'a', version: 3 }), file('raw'), file('b', { dataset: 'a', version: 2 }), file('a', { dataset: 'a', version: 1 })]
  expect(newestVersions(files).map(({ id }) => id)).toEqual(['c', 'raw'])
})

test('many parts end in one for the rest, and the shares are of all', () => {
  const told = parts({ a: 5, b: 3, c: 1, d: 1 }, 3)
  expect(told.map(({ label, value }) => [label, value])).toEqual([['a', 5], ['b', 3], ['2 other', 2]]) // prettier-ignore
  expect(told.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1)
  expect(parts({})).toEqual([])
  expect(parts({ a: 0 })).toEqual([])
})

test('splits stand in their order', () => {
  expect(splitWords({ test: 20, train: 65, dev: 15 })).toBe('65 train, 15 dev, 20 test')
})

test('a file tells its rows, or what is wrong with it', () => {
  expect(summary(file('a', { n_rows: 1200, reading: { format: 'JSONL', references: 1000 } }))).toBe('1,200 rows, 1,000 with a reference')
  expect(summary(file('a', { n_rows: 1, reading: { format: 'JSONL', references: 1 } }))).toBe('1 row, all with a reference')
  expect(summary(file('a', { status: 'error', status_details: '2 bad lines' }))).toBe('2 bad lines')
})

test('languages have names, and what is none stays', () => {
  expect(language('de')).toBe('German')
  expect(language('not a code')).toBe('not a code')
})

test('an edit holds what differs, an emptied field as null', () => {
  const row = { question: 'a', reference: 'b', category: null }
  expect(editOf(row, fieldsOf(row))).toBeNull()
  expect(editOf(row, { ...fieldsOf(row), question: 'c', reference: '' })).toEqual({ question: 'c', reference: null })
})

test('a draft becomes the body of one version', () => {
  const draft = { ...emptyDraft(), edits: { 'row-1': { question: 'c' }, 'row-2': { question: 'd' } }, removed: ['row-2'] }
  expect(versionRequest(draft)).toEqual({ edit: [{ id: 'row-1', question: 'c' }], remove: ['row-2'] })
  expect(draftWords(draft)).toBe('2 rows edited, 1 row removed')
  expect(isEmpty(draft)).toBe(false)
  expect(isEmpty(emptyDraft())).toBe(true)
})

test('a new row needs a question and holds no empty field', () => {
  expect(newRow({ ...fieldsOf({}), question: ' ' })).toBeNull()
  expect(newRow({ ...fieldsOf({}), question: 'a', category: 'x' })).toEqual({ question: 'a', category: 'x' })
})

test('a change tells the fields that differ', () => {
  const change = { id: 'row-1', change: 'changed', before: { id: 'row-1', question: 'a', reference: 'b' }, after: { id: 'row-1', question: 'a', reference: null } }
  expect(changedFields(change as RowChange)).toEqual([{ field: 'reference', before: 'b', after: null }])
})

test('lengths are measured against the context', () => {
  expect(fill({ median: 1, p95: 2, longest: 50 }, 200)).toBe(0.25)
  expect(fill({ median: 1, p95: 2, longest: 500 }, 200)).toBe(1)
  expect(fill({ median: 1, p95: 2, longest: 5 }, null)).toBeNull()
})

test('columns are those of the rows and those that are not read', () => {
  const preview = { rows: [{ line: 1, before: { Frage: 'a', Nr: 1 } }], reading: { ignored_fields: { Datum: 3 } } } as unknown as Preview
  expect(columnsOf(preview)).toEqual(['Datum', 'Frage', 'Nr'])
})
