import { expect, test } from 'vitest'
import { formsOf, pythonOf, quoted } from './snippets'

test('values become literals of Python', () => {
  expect(pythonOf({ a: [true, null, 1.5], b: {}, c: "it's" })).toBe('{\n    "a": [\n        True,\n        None,\n        1.5,\n    ],\n    "b": {},\n    "c": "it\'s",\n}')
})

test('a quote does not end the word of the shell', () => expect(quoted("it's")).toBe(`'it'\\''s'`))

test('the key is named by a variable and never written', () => {
  const call = { method: 'POST', path: '/v1/x', body: { n: 1 } } as const
  const forms = formsOf(call, 'http://host', true)
  expect(Object.keys(forms)).toEqual(['curl', 'Python', 'JSON'])
  expect(forms['curl']).toContain('-H "authorization: Bearer $METEOR_API_KEY"')
  expect(forms['Python']).toContain("os.environ['METEOR_API_KEY']")
  expect(formsOf(call, 'http://host', false)['curl']).not.toContain('authorization')
})
