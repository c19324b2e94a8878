import type { Listed } from '../../lib/api/queries.svelte'

/** All rows of a list of the API, `most` at most. */
export async function every<T>(page: (after: string | undefined) => Promise<Listed<T>>, most: number): Promise<T[]> {
  const rows: T[] = []
  let after: string | undefined
  do {
    const next = await page(after)
    rows.push(...next.data)
    after = next.has_more ? (next.last_id ?? undefined) : undefined
  } while (after !== undefined && rows.length < most)
  return rows.slice(0, most)
}
