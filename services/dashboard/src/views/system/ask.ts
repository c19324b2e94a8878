/** What the API says of itself outside of /v1. */

import { download, OPTIONS, send } from '../../lib/api/client'
import { asApiError, errorOf } from '../../lib/api/errors'
import { samples, type Sample } from './metrics'
import type { Readiness } from './system'

/** GET /readyz answers with 503 and the same body where parts are missing. Throws ApiError. */
export async function readiness(signal: AbortSignal): Promise<Readiness> {
  let response: Response
  try {
    response = await send(new Request(new URL('/readyz', location.origin), { ...OPTIONS, signal }))
  } catch (error) {
    throw asApiError(error)
  }
  const body: unknown = await response.json().catch(() => null)
  if (typeof body === 'object' && body !== null && 'checks' in body) return body as Readiness
  throw errorOf(response.status, body)
}

/** GET /metrics. Throws ApiError. */
export async function metrics(): Promise<Sample[]> {
  return samples(await (await download('/metrics', 'text/plain')).text())
}
