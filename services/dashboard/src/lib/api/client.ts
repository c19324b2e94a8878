/** The API with the types of openapi.json: `await ask(api.GET('/v1/models'))`. Errors are thrown as ApiError. */

import createClient from 'openapi-fetch'
import { connection } from './connection.svelte'
import { ApiError, asApiError, errorOf } from './errors'
import { apiKey } from './key.svelte'
import type { components, paths } from './schema'

export type Schemas = components['schemas']
const READ_MS = 30_000
const CHANGE_MS = 180_000 // a check asks strong models

/** fetch with the key and a timeout. A refused key asks for another one; an answer tells that the API is there. */
export async function send(request: Request): Promise<Response> {
  if (apiKey.value) request.headers.set('authorization', `Bearer ${apiKey.value}`)
  const used = apiKey.value
  let response: Response
  try {
    response = await fetch(request)
  } catch (error) {
    if (!request.signal.aborted || isTimeout(request.signal.reason)) connection.lost()
    throw error
  }
  connection.answered()
  if (response.status === 401 && used === apiKey.value) apiKey.wanted = true
  return response
}

function isTimeout(reason: unknown): boolean {
  return reason instanceof DOMException && reason.name === 'TimeoutError'
}

/** Options of every request: nothing but the key tells who asks, and no answer is kept by the browser. */
export const OPTIONS = { cache: 'no-store', credentials: 'omit', redirect: 'error' } as const

export const api = createClient<paths>({
  baseUrl: typeof location === 'undefined' ? 'http://localhost' : location.origin,
  fetch: (request) => send(new Request(request, { ...OPTIONS, signal: within(request.signal, timeoutOf(request)) })),
})

function timeoutOf(request: Request): number {
  if (request.headers.get('content-type')?.startsWith('multipart/')) return 0
  return request.method === 'GET' ? READ_MS : CHANGE_MS
}

function within(signal: AbortSignal, timeoutMs: number): AbortSignal {
  return timeoutMs ? AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) : signal
}

interface Answer<T> {
  data?: T
  error?: unknown
  response: Response
}

/** The data of an answer. Throws ApiError for a refusal, and where nothing answers. */
export async function ask<T>(answer: Promise<Answer<T>>): Promise<T> {
  let got: Answer<T>
  try {
    got = await answer
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error
    throw asApiError(error)
  }
  if (!got.response.ok) throw errorOf(got.response.status, got.error, got.response.headers.get('retry-after'))
  return got.data as T
}

/** A file of the API as bytes, for what the types do not know: pages, CSV, archives. */
export async function download(path: string, accept = '*/*'): Promise<Blob> {
  const request = new Request(new URL(path, location.origin), { ...OPTIONS, headers: { accept } })
  let response: Response
  try {
    response = await send(request)
  } catch (error) {
    throw asApiError(error)
  }
  if (!response.ok) {
    throw errorOf(response.status, await response.json().catch(() => null), response.headers.get('retry-after'))
  }
  return response.blob()
}

/** A new key for `Idempotency-Key`, so that a repeated POST makes one object. */
export function onceKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

export { ApiError }
