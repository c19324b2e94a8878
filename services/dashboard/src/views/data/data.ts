/** What is said of files, datasets, imports and their figures. Pure. */

import type { Schemas } from '../../lib/api/client'
import { count, plural, words } from '../../lib/format'

export type FileObject = Schemas['FileObject']
export type ImportObject = Schemas['ImportObject']
export type Preview = Schemas['Preview']
export type Row = Schemas['DatasetRow']
export type Lengths = Schemas['Lengths']
export type RowChange = Schemas['RowChange']

export const PURPOSES: { value: string; label: string }[] = [
  { value: 'fine-tune', label: 'datasets' },
  { value: 'user_data', label: 'raw files' },
  { value: 'evals', label: 'items of evals' },
  { value: 'fine-tune-results', label: 'results of jobs' },
]
export const PURPOSE_WORDS: Record<string, string> = {
  'fine-tune': 'dataset',
  user_data: 'raw file',
  evals: 'items of evals',
  'fine-tune-results': 'results of a job',
}

/** The newest version of each dataset, and every other file, in their order. */
export function newestVersions(files: FileObject[]): FileObject[] {
  const newest = new Map<string, FileObject>()
  for (const file of files) {
    const known = newest.get(file.dataset ?? file.id)
    if (!known || (file.version ?? 1) > (known.version ?? 1)) newest.set(file.dataset ?? file.id, file)
  }
  return files.filter((file) => newest.get(file.dataset ?? file.id) === file)
}

export interface Part {
  label: string
  value: number
  /** Of the sum of all parts, between 0 and 1. */
  share: number
}

/** The largest parts of counts by name; what is behind the last one becomes "other". */
export function parts(counts: Record<string, number> | null | undefined, most = 8): Part[] {
  const all = Object.entries(counts ?? {}).sort(([, a], [, b]) => b - a)
  const sum = all.reduce((total, [, value]) => total + value, 0)
  if (!sum) return []
  const shown = all.slice(0, all.length > most ? most - 1 : most)
  const rest = sum - shown.reduce((total, [, value]) => total + value, 0)
  const made = shown.map(([label, value]) => ({ label, value, share: value / sum }))
  return rest ? [...made, { label: `${all.length - shown.length} other`, value: rest, share: rest / sum }] : made
}

const SPLITS = ['train', 'dev', 'test']
export const splitParts = (splits: Record<string, number> | null | undefined): Part[] =>
  parts(splits).sort((a, b) => SPLITS.indexOf(a.label) - SPLITS.indexOf(b.label))

export function splitWords(splits: Record<string, number> | null | undefined): string {
  return splitParts(splits)
    .map((part) => `${count(part.value)} ${part.label}`)
    .join(', ')
}

/** What rows have in common with others, as the API names it. */
const LIKENESS: Record<string, string> = {
  question: 'the same question',
  asked: 'the same question under another context',
  reference: 'the same reference',
  passage: 'the same passage',
  near: 'nearly the same question',
  group: 'the same group',
}
export const likeness = (kind: string): string => LIKENESS[kind] ?? words(kind)

const SPLIT_BY: Record<string, string> = {
  file: 'The file names the split of each row.',
  question: 'Each question is assigned by its hash, so that it stays where it is in every version.',
  size: 'The file is small, so the splits are balanced by size.',
}
export const splitReason = (by: string | undefined): string => SPLIT_BY[by ?? 'question'] ?? ''

let names: Intl.DisplayNames | undefined
/** "de" as "German". */
export function language(code: string): string {
  names ??= new Intl.DisplayNames('en', { type: 'language', fallback: 'code' })
  try {
    return names.of(code) ?? code
  } catch {
    return code
  }
}

/** How a file reads in one line: rows and references, or why it cannot be used. */
export function summary(file: FileObject): string {
  if (file.n_rows == null) return file.status_details ?? PURPOSE_WORDS[file.purpose] ?? file.purpose
  const references = file.reading?.references ?? 0
  return `${plural(file.n_rows, 'row')}, ${references === file.n_rows ? 'all' : count(references)} with a reference`
}

/** What an import makes rows of. */
export function sourceWords(source: ImportObject['source']): string {
  const named = source as Record<string, unknown>
  switch (source.type) {
    case 'hub':
      return `dataset ${String(named['dataset'])} of the hub`
    case 'stackexchange':
      return `Stack Exchange${named['site'] ? `, ${String(named['site'])}` : ''}`
    case 'documents':
      return `documents about ${String(named['domain'])}`
    case 'generate':
      return `generated questions about ${String(named['domain'])}`
    default:
      return 'a data file'
  }
}

const RUNNING = ['validating_files', 'queued', 'running', 'pausing', 'cancelling']
export const isRunning = (one: { status: string }): boolean => RUNNING.includes(one.status)

// Changes to a dataset that wait to become a version

export const FIELDS = ['question', 'reference', 'category', 'title', 'context'] as const
export type Field = (typeof FIELDS)[number]
export type Fields = Record<Field, string>
export type Edit = Partial<Record<Field, string | null>>

export interface Draft {
  /** By the id of the row: the fields that change; null empties one. */
  edits: Record<string, Edit>
  removed: string[]
  added: Partial<Record<Field, string>>[]
}

export const emptyDraft = (): Draft => ({ edits: {}, removed: [], added: [] })
export const isEmpty = (draft: Draft): boolean => !Object.keys(draft.edits).length && !draft.removed.length && !draft.added.length

export function fieldsOf(row: Partial<Record<Field, string | null>>): Fields {
  return Object.fromEntries(FIELDS.map((field) => [field, row[field] ?? ''])) as Fields
}

/** What turns the row into these fields; null where nothing differs. */
export function editOf(row: Partial<Record<Field, string | null>>, fields: Fields): Edit | null {
  const edit: Edit = {}
  for (const field of FIELDS) {
    if (fields[field] !== (row[field] ?? '')) edit[field] = fields[field] === '' ? null : fields[field]
  }
  return Object.keys(edit).length ? edit : null
}

/** A row without its empty fields; null without a question. */
export function newRow(fields: Fields): Partial<Record<Field, string>> | null {
  if (!fields.question.trim()) return null
  return Object.fromEntries(FIELDS.filter((field) => fields[field] !== '').map((field) => [field, fields[field]]))
}

export function draftWords(draft: Draft): string {
  const edited = Object.keys(draft.edits).length
  return [
    edited && `${plural(edited, 'row')} edited`,
    draft.removed.length && `${plural(draft.removed.length, 'row')} removed`,
    draft.added.length && `${plural(draft.added.length, 'row')} added`,
  ]
    .filter(Boolean)
    .join(', ')
}

/** Body of POST /v1/files/{id}/versions. */
export function versionRequest(draft: Draft): Schemas['VersionRequest'] {
  const edits = Object.entries(draft.edits).filter(([id]) => !draft.removed.includes(id))
  return {
    ...(edits.length && { edit: edits.map(([id, edit]) => ({ id, ...edit })) }),
    ...(draft.removed.length && { remove: draft.removed }),
    ...(draft.added.length && { append: draft.added }),
  } as Schemas['VersionRequest']
}

/** The fields of a row that differ between two versions. */
export function changedFields(change: RowChange): { field: string; before: string | null; after: string | null }[] {
  const before = (change.before ?? {}) as Record<string, unknown>
  const after = (change.after ?? {}) as Record<string, unknown>
  const text = (value: unknown) => (value == null ? null : typeof value === 'string' ? value : JSON.stringify(value, null, 1))
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((field) => field !== 'id' && JSON.stringify(before[field] ?? null) !== JSON.stringify(after[field] ?? null))
    .map((field) => ({ field, before: text(before[field]), after: text(after[field]) }))
}

/** How much of the context the longest of these lengths takes, between 0 and 1; null where no context is known. */
export function fill(lengths: Lengths | null | undefined, context: number | null | undefined): number | null {
  return lengths && context ? Math.min(lengths.longest / context, 1) : null
}

/** Our fields that a person may map, and what each is. */
export const MAPPABLE: { field: string; about: string }[] = [
  { field: 'question', about: 'what is asked' },
  { field: 'reference', about: 'the accepted answer' },
  { field: 'category', about: 'a kind of question' },
  { field: 'context', about: 'what the question refers to' },
  { field: 'group', about: 'rows of one group stay in one split' },
  { field: 'id', about: 'the name of the row' },
  { field: 'split', about: 'train, dev or test' },
]

/** Columns of the rows as they stand in the file. */
export function columnsOf(preview: Preview): string[] {
  const names = (preview.rows ?? []).flatMap((row) => Object.keys((row.before as Record<string, unknown> | null) ?? {}))
  return [...new Set([...names, ...Object.keys(preview.reading.ignored_fields ?? {})])].sort()
}
