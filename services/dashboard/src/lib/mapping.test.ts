import { expect, test } from 'vitest'
import { suggestedMapping, withoutOptions } from './mapping'

const HINT = "Name it, for example: --map question=body --map 'reference=the answer' (over HTTP the field mapping)"
const BY_PLACE = '. If the first row is no header, name the columns by place: --map question=column_1 --map reference=column_2'

test('the first mapping that a message suggests is read from it', () => {
  expect(suggestedMapping(`no question. ${HINT}${BY_PLACE}`)).toEqual({ question: 'body', reference: 'the answer' })
  expect(suggestedMapping('Name it: --map question=FIELD')).toBeNull()
  expect(suggestedMapping('a bad line')).toBeNull()
})

test('a message is shown without options of a command', () => {
  expect(withoutOptions(HINT)).toBe('Name it, for example: question = "body", reference = "the answer"')
  expect(withoutOptions(HINT + BY_PLACE)).toContain('"the answer". If the first row is no header, name the columns by place: question = "column_1"')
  expect(withoutOptions('say that there is none: --map reference= (empty); over HTTP the field mapping')).toBe('say that there is none: reference = "" (empty)')
  expect(withoutOptions('a bad line')).toBe('a bad line')
})
