import { expect, test } from 'vitest'
import { Attempt } from './attempt.svelte'

test('an act is busy until it ends, and its failure stays until the next one begins', async () => {
  const attempt = new Attempt()
  const refused = new Error('no')
  const failing = attempt.run(() => Promise.reject(refused), 'sending')
  expect([attempt.busy, attempt.doing, attempt.error]).toEqual([true, 'sending', null])
  await failing
  expect([attempt.busy, attempt.doing, attempt.error]).toEqual([false, '', refused])
  const working = attempt.run(async () => 1)
  expect([attempt.busy, attempt.error]).toEqual([true, null])
  await working
  expect([attempt.busy, attempt.error]).toEqual([false, null])
})

test('an act that throws at once is a failure too', async () => {
  const attempt = new Attempt()
  await attempt.run(() => {
    throw new TypeError('broken')
  })
  expect(attempt.error).toBeInstanceOf(TypeError)
  expect(attempt.busy).toBe(false)
})
