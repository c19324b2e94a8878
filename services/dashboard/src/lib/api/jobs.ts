/** Jobs by their ids, for what is told of them beside something else. */

import { api, ask, ApiError } from './client'
import { queryClient } from './queries.svelte'
import type { Job } from '../job'

const KEPT_MS = 60_000

/** By id. A job that is gone has no entry. Throws ApiError for everything else. */
export async function jobsOf(ids: (string | null | undefined)[]): Promise<Map<string, Job>> {
  const wanted = [...new Set(ids.flatMap((id) => id ?? []))]
  const told = await Promise.all(wanted.map(one))
  return new Map(told.flatMap((job) => (job ? [[job.id, job] as const] : [])))
}

function one(id: string): Promise<Job | null> {
  return queryClient.fetchQuery({
    queryKey: ['maker', id],
    queryFn: async ({ signal }) => {
      try {
        return await ask(api.GET('/v1/distillation/jobs/{job_id}', { params: { path: { job_id: id } }, signal }))
      } catch (refused) {
        if (refused instanceof ApiError && refused.status === 404) return null
        throw refused
      }
    },
    staleTime: KEPT_MS,
  })
}
