import { expect, test } from 'vitest'
import { asItStands, formOf, givenOptions } from './upload'

test('only what was chosen is sent', () => {
  expect(givenOptions(asItStands())).toEqual({})
  const chosen = { ...asItStands(), mapping: { question: 'Frage', reference: '' }, skip_bad: true, answers: 'all' as const }
  expect(givenOptions(chosen)).toEqual({ mapping: { question: 'Frage' }, skip_bad: true, answers: 'all' })
})

test('a form holds the options as the API reads them, and the file last', () => {
  const form = formOf(new File(['{}'], 'a.jsonl'), 'user_data', { mapping: { question: 'Frage' }, mask: true }, 3600)
  expect([...form.keys()]).toEqual(['purpose', 'expires_after[anchor]', 'expires_after[seconds]', 'mapping', 'mask', 'file'])
  expect(form.get('mapping')).toBe('{"question":"Frage"}')
  expect(form.get('mask')).toBe('true')
})
