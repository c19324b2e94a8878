/** What the form of an import asks, as the API takes it. Pure. */

import type { Schemas } from '../../lib/api/client'

export type SourceType = 'hub' | 'generate' | 'documents' | 'stackexchange'

export const SOURCES: { type: SourceType; label: string; about: string; file: 'none' | 'needed' | 'optional' }[] = [
  { type: 'hub', label: 'A dataset of a hub', about: 'Its data files in any format; its code is never run.', file: 'none' },
  { type: 'generate', label: 'Questions that a strong model writes', about: 'Topics first, then questions of each topic at each level.', file: 'optional' },
  { type: 'documents', label: 'Documents', about: 'A strong model writes questions from passages; the passage is the reference.', file: 'needed' },
  { type: 'stackexchange', label: 'A Stack Exchange site', about: 'Posts.xml of a dump, plain or zipped.', file: 'needed' },
]

export interface Wish {
  type: SourceType
  file: string
  dataset: string
  split: string
  domain: string
  count: number | null
  limit: number | null
  dollars: number | null
  mask: boolean
  skipBad: boolean
}

export const startingImport = (): Wish => ({
  type: 'hub', file: '', dataset: '', split: 'train', domain: '', count: 200, limit: null, dollars: null, mask: false, skipBad: true,
}) // prettier-ignore

/** Whether everything that the source needs is there. */
export function isComplete(wish: Wish): boolean {
  const source = SOURCES.find((one) => one.type === wish.type)
  if (source?.file === 'needed' && !wish.file) return false
  if (wish.type === 'hub') return wish.dataset.trim() !== ''
  return wish.type === 'stackexchange' || (wish.domain.trim() !== '' && (wish.count ?? 0) > 0)
}

export function importRequest(wish: Wish): Schemas['ImportRequest'] {
  const file = SOURCES.find((one) => one.type === wish.type)?.file === 'none' ? '' : wish.file
  const money = wish.type === 'documents' || wish.type === 'generate' ? wish.dollars : null
  const request = {
    source: sourceOf(wish),
    ...(file && { file }),
    ...(wish.mask && { mask: true }),
    ...(money != null && { budget: { max_usd: money } }),
  }
  return request as Schemas['ImportRequest']
}

function sourceOf(wish: Wish): Record<string, unknown> {
  const limit = wish.limit ? { limit: wish.limit } : {}
  switch (wish.type) {
    case 'hub':
      return { type: 'hub', dataset: wish.dataset.trim(), split: wish.split.trim() || 'train', ...(wish.skipBad && { skip_bad: true }), ...limit }
    case 'generate':
      return { type: 'generate', domain: wish.domain.trim(), count: wish.count }
    case 'documents':
      return { type: 'documents', domain: wish.domain.trim(), questions: wish.count }
    case 'stackexchange':
      return { type: 'stackexchange', ...limit }
  }
}
