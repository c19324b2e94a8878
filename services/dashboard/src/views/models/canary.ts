import { api, ask, ApiError } from '../../lib/api/client'
import type { Canary } from './models'

/** The canary of an alias; null where there is none. */
export async function canaryOf(alias: string, signal?: AbortSignal): Promise<Canary | null> {
  try {
    return await ask(api.GET('/v1/models/{alias}/canary', { params: { path: { alias } }, ...(signal && { signal }) }))
  } catch (refused) {
    if (refused instanceof ApiError && refused.status === 404) return null
    throw refused
  }
}
