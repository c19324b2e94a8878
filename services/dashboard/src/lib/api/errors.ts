import type { components } from './schema'

export type ErrorItem = components['schemas']['ErrorItem']
type ErrorBody = components['schemas']['ErrorBody']

/** An error that the API has answered with, or status 0 where it did not answer. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
    readonly param: string | null = null,
    /** All faults of a body, where the API lists several. */
    readonly items: ErrorItem[] = [],
    readonly retryAfterS = 0,
  ) {
    super(message)
    this.name = 'ApiError'
  }

  get offline(): boolean {
    return this.status === 0
  }

  /** Whether the same request may succeed later. */
  get passing(): boolean {
    return this.offline || this.status === 429 || this.status >= 500
  }
}

/** status 0: no answer. body: what was answered, which is HTML where a proxy answers. */
export function errorOf(status: number, body: unknown, retryAfter: string | null = null): ApiError {
  const error = isObject(body) && isObject(body['error']) ? (body['error'] as Partial<ErrorBody>) : null
  const items = Array.isArray(error?.errors) ? error.errors : []
  return new ApiError(
    status,
    typeof error?.message === 'string' ? error.message : `HTTP ${status}`,
    error?.code ?? null,
    error?.param ?? null,
    items,
    Number(retryAfter) || 0,
  )
}

/** What is wrong with a field, and what helps; with its name where `named` and the message does not begin with it. */
export function itemWords({ param, message, remedy }: ErrorItem, named = true): string {
  const said = param && message.startsWith(`${param}: `) ? message.slice(param.length + 2) : message
  return `${named && param ? `${param}: ` : ''}${said}${remedy ? `. ${remedy}` : ''}`
}

/** What went wrong as an ApiError: fetch throws TypeError without a connection and DOMException after a timeout. */
export function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, 'The API does not answer.')
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
