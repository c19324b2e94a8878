/** One chat that is streamed: what came of it so far, and how fast it came. */

import { createParser } from 'eventsource-parser'
import { OPTIONS, send } from '../../lib/api/client'
import { asApiError, errorOf } from '../../lib/api/errors'

export interface Usage {
  prompt_tokens: number
  completion_tokens: number
}

export interface Answer {
  state: 'waiting' | 'writing' | 'done' | 'stopped' | 'failed'
  /** Of the completion, which feedback names. */
  id: string | null
  /** The version that answered. */
  version: string | null
  text: string
  reasoning: string
  finish: string | null
  usage: Usage | null
  /** Milliseconds from the request to the first and the last token. */
  firstMs: number | null
  lastMs: number | null
  error: unknown
}

export const NOTHING: Answer = {
  state: 'waiting', id: null, version: null, text: '', reasoning: '', finish: null, usage: null, firstMs: null, lastMs: null, error: null,
} // prettier-ignore

export interface Prompt {
  model: string
  system: string
  question: string
  /** null: as the model was evaluated. */
  temperature: number | null
  maxTokens: number | null
  store: boolean
}

/** The body of POST /v1/chat/completions. */
export function bodyOf({ model, system, question, temperature, maxTokens, store }: Prompt, stream: boolean): Record<string, unknown> {
  return {
    model,
    messages: [...(system.trim() ? [{ role: 'system', content: system }] : []), { role: 'user', content: question }],
    ...(temperature !== null && { temperature }),
    ...(maxTokens !== null && { max_tokens: maxTokens }),
    ...(store && { store: true }),
    ...(stream && { stream: true, stream_options: { include_usage: true } }),
  }
}

interface Chunk {
  id?: string
  choices?: { delta?: { content?: string | null; reasoning_content?: string | null }; finish_reason?: string | null }[]
  usage?: Usage | null
  error?: unknown
}

/** The answer with one more event of the stream. ms: since the request. Throws ApiError for an error that the stream tells. */
export function withEvent(answer: Answer, data: string, ms: number): Answer {
  if (data === '[DONE]') return { ...answer, state: 'done' }
  const chunk = JSON.parse(data) as Chunk
  if (chunk.error) throw errorOf(502, chunk)
  const { delta, finish_reason: finish } = chunk.choices?.[0] ?? {}
  const text = delta?.content ?? ''
  const reasoning = delta?.reasoning_content ?? ''
  const came = Boolean(text || reasoning)
  return {
    ...answer,
    state: 'writing',
    id: chunk.id ?? answer.id,
    text: answer.text + text,
    reasoning: answer.reasoning + reasoning,
    finish: finish ?? answer.finish,
    usage: chunk.usage ?? answer.usage,
    firstMs: answer.firstMs ?? (came ? ms : null),
    lastMs: came ? ms : answer.lastMs,
  }
}

/** Tokens written in a second, from the first token to the last; null where there is too little to tell. */
export function speed({ usage, firstMs, lastMs }: Answer): number | null {
  if (!usage || firstMs === null || lastMs === null || lastMs <= firstMs || usage.completion_tokens < 2) return null
  return (1000 * (usage.completion_tokens - 1)) / (lastMs - firstMs)
}

/** Why the answer ended, where that is not its own end. */
export function ending(answer: Answer): string | null {
  if (answer.state === 'stopped') return 'stopped by you'
  if (answer.finish === 'length') return 'cut off at the limit of tokens'
  if (answer.finish === null || answer.finish === 'stop') return null
  return `ended with ${answer.finish}`
}

/** Asks and tells every change. It throws nothing: what went wrong stands in the answer. */
export async function streamed(prompt: Prompt, signal: AbortSignal, tell: (answer: Answer) => void): Promise<Answer> {
  const began = performance.now()
  let answer = NOTHING
  const change = (next: Answer) => tell((answer = next))
  change(answer)
  try {
    const headers = { 'content-type': 'application/json', accept: 'text/event-stream' }
    const init = { ...OPTIONS, method: 'POST', headers, body: JSON.stringify(bodyOf(prompt, true)), signal }
    const response = await send(new Request(new URL('/v1/chat/completions', location.origin), init))
    if (!response.ok) throw errorOf(response.status, await response.json().catch(() => null), response.headers.get('retry-after'))
    change({ ...answer, version: decodeURIComponent(response.headers.get('x-meteor-model') ?? '') || null })
    const parser = createParser({ onEvent: ({ data }) => change(withEvent(answer, data, performance.now() - began)) })
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) parser.feed(part.value)
    if (answer.state !== 'done') throw errorOf(502, { error: { message: 'The answer broke off before its end.' } })
  } catch (error) {
    change(signal.aborted ? { ...answer, state: 'stopped' } : { ...answer, state: 'failed', error: asApiError(error) })
  }
  return answer
}
