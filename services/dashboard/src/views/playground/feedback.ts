/** What a person says of a stored answer. The route may be missing where an older API serves the page. */

import { download, onceKey, OPTIONS, send } from '../../lib/api/client'
import { asApiError, errorOf } from '../../lib/api/errors'

export interface Feedback {
  completion_id: string
  rating?: 'up' | 'down'
  correction?: string
}

const ROUTE = '/v1/feedback'

/** Whether the API takes feedback, by its own document. */
export async function takesFeedback(): Promise<boolean> {
  const document = JSON.parse(await (await download('/openapi.json', 'application/json')).text()) as { paths?: Record<string, unknown> }
  return ROUTE in (document.paths ?? {})
}

/** Throws ApiError. */
export async function giveFeedback(feedback: Feedback): Promise<void> {
  const headers = { 'content-type': 'application/json', 'idempotency-key': onceKey() }
  const init = { ...OPTIONS, method: 'POST', headers, body: JSON.stringify(feedback) }
  let response: Response
  try {
    response = await send(new Request(new URL(ROUTE, location.origin), init))
  } catch (error) {
    throw asApiError(error)
  }
  if (!response.ok) throw errorOf(response.status, await response.json().catch(() => null))
}
