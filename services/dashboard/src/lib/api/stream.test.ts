import { expect, test } from 'vitest'
import { follow, type StreamEvent, type StreamState } from './stream'

const event = (id: number) => `id: ${id}\nevent: message\ndata: {"n":${id}}\n\n`
const DONE = 'event: done\ndata: {}\n\n'

/** A stream of these pieces, which then ends or, with `hangs`, stays open until it is aborted. */
function streamOf(pieces: string[], signal: AbortSignal, hangs = false): Response {
  const body = new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece))
      if (hangs) signal.addEventListener('abort', () => controller.error(new DOMException('aborted', 'AbortError')))
      else controller.close()
    },
  })
  return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
}

/** Follows what `open` answers by turns; tells what was asked, seen and waited for. */
async function followed(answers: ((signal: AbortSignal) => Response | Promise<Response>)[], lastId: string | null = null) {
  const asked: (string | null)[] = []
  const seen: StreamEvent[] = []
  const states: StreamState[] = []
  const waits: number[] = []
  const stop = new AbortController()
  await follow({
    lastId,
    signal: stop.signal,
    silenceMs: 30,
    open: async (id, signal) => {
      asked.push(id)
      const answer = answers.shift()
      if (!answer) throw new Error('nothing more is answered')
      return answer(signal)
    },
    onEvents: (events) => seen.push(...events),
    onState: (state) => states.push(state),
    sleep: async (ms) => {
      waits.push(ms)
      if (!answers.length) stop.abort()
    },
  })
  return { asked, ids: seen.map(({ id }) => id), states, waits }
}

test('events are told until the stream says that it is over', async () => {
  const told = await followed([(signal) => streamOf([event(1), event(2) + DONE], signal)])
  expect(told).toEqual({ asked: [null], ids: ['1', '2'], states: ['connecting', 'live', 'ended'], waits: [] })
})

test('after a break it goes on behind the last event', async () => {
  const away = () => Promise.reject(new TypeError('no connection'))
  const told = await followed([(signal) => streamOf([event(5).slice(0, 9), event(5).slice(9)], signal), away, away, (signal) => streamOf([event(6), DONE], signal)], '4')
  expect(told.asked).toEqual(['4', '5', '5', '5'])
  expect(told.ids).toEqual(['5', '6'])
  expect(told.waits).toEqual([1000, 2000, 4000])
})

test('an error of the server is asked again, a refusal is not', async () => {
  const told = await followed([() => new Response('', { status: 503 }), () => new Response('', { status: 404 })])
  expect(told.states).toEqual(['connecting', 'waiting', 'connecting', 'refused'])
})

test('a connection that is silent is left, as after a night asleep', async () => {
  const told = await followed([(signal) => streamOf([event(1)], signal, true), (signal) => streamOf([DONE], signal)])
  expect(told.asked).toEqual([null, '1'])
  expect(told.states.at(-1)).toBe('ended')
})
