/** Server-sent events over fetch, since EventSource sends no key. It goes on from the last event after every break. */

import { createParser } from 'eventsource-parser'

const FIRST_WAIT_MS = 1000
const LONGEST_WAIT_MS = 30_000
/** The API sends a ping each 15 s; a connection that is silent for longer is dead, as after a night asleep. */
const SILENCE_MS = 45_000

export interface StreamEvent {
  id: string | undefined
  name: string
  data: string
}

export interface StreamOptions {
  /** Opens the stream behind the event `lastId`. Throws where nothing answers. */
  open: (lastId: string | null, signal: AbortSignal) => Promise<Response>
  /** Events in the order in which they came, as many as one piece of the stream had. */
  onEvents: (events: StreamEvent[]) => void
  onState: (state: StreamState) => void
  lastId?: string | null
  signal: AbortSignal
  sleep?: (ms: number, signal: AbortSignal) => Promise<void>
  silenceMs?: number
}

/** ended: the API has said that no event follows. refused: it answered with an error that asking again does not mend. */
export type StreamState = 'connecting' | 'live' | 'waiting' | 'ended' | 'refused'

/** Follows the stream until it ends, is refused, or `signal` aborts. */
export async function follow(options: StreamOptions): Promise<void> {
  const { signal, sleep = pause, onState } = options
  let lastId = options.lastId ?? null
  let wait = FIRST_WAIT_MS
  while (!signal.aborted) {
    onState('connecting')
    try {
      const result = await once({ ...options, lastId }, (id) => {
        lastId = id ?? lastId
        wait = FIRST_WAIT_MS
      })
      if (result !== 'broken') return onState(result)
    } catch {
      // no connection, or it broke
    }
    if (signal.aborted) return
    onState('waiting')
    await sleep(wait, signal)
    wait = Math.min(wait * 2, LONGEST_WAIT_MS)
  }
}

async function once(options: StreamOptions, onNews: (id?: string) => void): Promise<'ended' | 'refused' | 'broken'> {
  const { open, onEvents, onState, signal, silenceMs = SILENCE_MS } = options
  const connection = new AbortController()
  const leave = () => connection.abort()
  signal.addEventListener('abort', leave, { once: true })
  let silence = setTimeout(leave, silenceMs)
  try {
    const response = await open(options.lastId ?? null, connection.signal)
    if (!response.ok) return response.status === 429 || response.status >= 500 ? 'broken' : 'refused'
    if (!response.body) return 'broken'
    onState('live')
    let events: StreamEvent[] = []
    let ended = false
    const parser = createParser({
      onEvent: ({ id, event, data }) => {
        if (event === 'done') ended = true
        else events.push({ id, name: event ?? 'message', data })
      },
    })
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    while (!ended) {
      const { value, done } = await reader.read()
      if (done || signal.aborted) return 'broken'
      clearTimeout(silence)
      silence = setTimeout(leave, silenceMs)
      parser.feed(value)
      onNews(events.at(-1)?.id)
      if (events.length) onEvents(events)
      events = []
    }
    return 'ended'
  } finally {
    clearTimeout(silence)
    signal.removeEventListener('abort', leave)
    connection.abort()
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', () => (clearTimeout(timer), done()), { once: true })
  })
}
