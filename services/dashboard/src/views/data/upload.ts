/** Sending files: as multipart, without a timeout. */

import { api, ask } from '../../lib/api/client'
import type { FileObject } from './data'

export interface ReadOptions {
  mapping: Record<string, string>
  skip_bad: boolean
  mask: boolean
  answers: 'last' | 'all'
}
export const asItStands = (): ReadOptions => ({ mapping: {}, skip_bad: false, mask: false, answers: 'last' })

/** The options that differ from the defaults. */
export function givenOptions(options: ReadOptions): Partial<ReadOptions> {
  const mapping = Object.fromEntries(Object.entries(options.mapping).filter(([, column]) => column !== ''))
  return {
    ...(Object.keys(mapping).length && { mapping }),
    ...(options.skip_bad && { skip_bad: true }),
    ...(options.mask && { mask: true }),
    ...(options.answers === 'all' && { answers: 'all' as const }),
  }
}

export function formOf(file: File, purpose: string, options: Partial<ReadOptions> = {}, expiresAfterS?: number): FormData {
  const form = new FormData()
  form.append('purpose', purpose)
  if (expiresAfterS !== undefined) {
    form.append('expires_after[anchor]', 'created_at')
    form.append('expires_after[seconds]', String(expiresAfterS))
  }
  for (const [name, value] of Object.entries(options)) form.append(name, typeof value === 'object' ? JSON.stringify(value) : String(value))
  form.append('file', file, file.name)
  return form
}

/** Throws ApiError. */
export function send(form: FormData): Promise<FileObject> {
  return ask(api.POST('/v1/files', { body: form as never, bodySerializer: (body: unknown) => body as FormData })) as Promise<FileObject>
}
