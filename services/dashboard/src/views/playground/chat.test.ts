import { describe, expect, it } from 'vitest'
import { ApiError } from '../../lib/api/errors'
import { bodyOf, ending, NOTHING, speed, withEvent, type Answer } from './chat'

const chunk = (delta: object, more: object = {}) => JSON.stringify({ id: 'chatcmpl-7', choices: [{ delta, finish_reason: null, ...more }] })
const read = (...events: string[]): Answer => events.reduce((answer, data, n) => withEvent(answer, data, 100 * (n + 1)), NOTHING)

describe('a streamed answer', () => {
  it('keeps rationale and answer apart and times the first and the last token', () => {
    const answer = read(
      chunk({ role: 'assistant', content: '' }),
      chunk({ reasoning_content: 'Twice 21.' }),
      chunk({ content: '4' }),
      chunk({ content: '2' }, { finish_reason: 'stop' }),
      JSON.stringify({ id: 'chatcmpl-7', choices: [], usage: { prompt_tokens: 9, completion_tokens: 5 } }),
      '[DONE]',
    )
    expect(answer).toMatchObject({ state: 'done', id: 'chatcmpl-7', text: '42', reasoning: 'Twice 21.', firstMs: 200, lastMs: 400 })
    expect(speed(answer)).toBe(20)
    expect(ending(answer)).toBeNull()
  })

  it('tells an error of the stream in its own words', () => {
    expect(() => withEvent(NOTHING, '{"error":{"message":"out of memory","code":"engine_failed"}}', 1)).toThrow(
      expect.objectContaining({ message: 'out of memory', code: 'engine_failed' }) as ApiError,
    )
  })

  it('says that it was cut off', () => {
    expect(ending(read(chunk({ content: 'a' }, { finish_reason: 'length' })))).toBe('cut off at the limit of tokens')
  })

  it('has no speed without usage or with one token', () => {
    expect(speed(read(chunk({ content: 'a' }), chunk({ content: 'b' })))).toBeNull()
    expect(speed({ ...NOTHING, usage: { prompt_tokens: 1, completion_tokens: 1 }, firstMs: 1, lastMs: 9 })).toBeNull()
  })
})

describe('the request', () => {
  const prompt = { model: 'shell', system: ' ', question: 'Q', temperature: null, maxTokens: null, store: false }
  it('leaves out what is not said, so that the model answers as it was evaluated', () => {
    expect(bodyOf(prompt, false)).toEqual({ model: 'shell', messages: [{ role: 'user', content: 'Q' }] })
  })
  it('has a system text, settings and the stream with its usage', () => {
    const body = bodyOf({ ...prompt, system: 'Be brief.', temperature: 0, maxTokens: 5, store: true }, true)
    expect(body).toMatchObject({ temperature: 0, max_tokens: 5, store: true, stream: true, stream_options: { include_usage: true } })
    expect(body['messages']).toHaveLength(2)
  })
})
