/** Uploads: a draft, which is looked at and goes away by itself, and the dataset that a job learns from. */

import { api, ApiError, ask, type Schemas } from '../../lib/api/client'

export type FileObject = Schemas['FileObject']
export type Preview = Schemas['Preview']
const DRAFT_S = 3600

export interface Reading {
  mapping: Record<string, string>
  skip_bad: boolean
  answers: 'last' | 'all'
  mask: boolean
}

export const AS_IT_IS: Reading = { mapping: {}, skip_bad: false, answers: 'last', mask: false }

/** Keeps the file for an hour, unread. */
export async function uploadDraft(file: File): Promise<FileObject> {
  return post({ purpose: 'user_data', 'expires_after[anchor]': 'created_at', 'expires_after[seconds]': String(DRAFT_S) }, file)
}

export async function uploadDataset(file: File, reading: Reading): Promise<FileObject> {
  const mapping = Object.entries(reading.mapping).map(([field, column]) => [`mapping[${field}]`, column] as const)
  const options = { skip_bad: String(reading.skip_bad), answers: reading.answers, mask: String(reading.mask) }
  return post({ purpose: 'fine-tune', ...Object.fromEntries(mapping), ...options }, file)
}

/** The file comes last, so that the server knows how to read it. */
async function post(fields: Record<string, string>, file: File): Promise<FileObject> {
  const form = new FormData()
  for (const [name, value] of Object.entries(fields)) form.append(name, value)
  form.append('file', file, file.name)
  return ask(api.POST('/v1/files', { body: form as unknown as never, bodySerializer: () => form }))
}

/** reading: null: as the file was uploaded. */
export async function preview(id: string, reading: Reading | null, student: string | null, signal: AbortSignal): Promise<Preview> {
  const body = { ...reading, rows: 5, ...(student && { student }) }
  try {
    return await ask(api.POST('/v1/files/{file_id}/preview', { params: { path: { file_id: id } }, body, signal }))
  } catch (error) {
    // The API may be on another machine than the student's files; then lengths are told in characters alone.
    if (student && error instanceof ApiError && error.param === 'student') return preview(id, reading, null, signal)
    throw error
  }
}

/** A draft that is not needed any more; it would go away by itself. */
export async function dropDraft(id: string): Promise<void> {
  await ask(api.DELETE('/v1/files/{file_id}', { params: { path: { file_id: id } } })).catch(() => undefined)
}
