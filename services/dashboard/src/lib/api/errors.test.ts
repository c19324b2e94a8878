import { expect, test } from 'vitest'
import { itemWords } from './errors'

test('a fault names its field once, and not at all beside the field', () => {
  const fault = { code: 'invalid_value', param: 'iterate.rounds', message: 'iterate.rounds: at most 20', remedy: 'ask for fewer' }
  expect(itemWords(fault)).toBe('iterate.rounds: at most 20. ask for fewer')
  expect(itemWords(fault, false)).toBe('at most 20. ask for fewer')
  expect(itemWords({ ...fault, message: 'no such grader', remedy: undefined })).toBe('iterate.rounds: no such grader')
})
