import { expect, test } from 'vitest'
import { canaryTerms, readSteps, startingCanary, stepsFault } from './canary'

test('steps rise up to 100', () => {
  expect(readSteps('5, 25 %, 50')).toEqual([5, 25, 50])
  expect(readSteps('50, 25')).toBeNull()
  expect(readSteps('')).toBeNull()
  expect(readSteps('5, many')).toBeNull()
  expect(stepsFault({ ...startingCanary(), steps: '50, 25' })).toContain('rise')
  expect(stepsFault({ ...startingCanary(), steps: '50, 25', mode: 'share' })).toBeNull()
})

test('a wish becomes the terms that the API takes', () => {
  expect(canaryTerms({ ...startingCanary(), mode: 'share', percent: 30, shadow: true })).toEqual({ percent: 30, shadow: true })
  expect(canaryTerms({ ...startingCanary(), metric: 'latency_ms', promote: true })).toEqual({
    goal: { metric: 'latency_ms', limit_ms: 5000, min_requests: 100 }, steps: [5, 25, 50], promote: true,
  }) // prettier-ignore
})

test('what counts and who is a user are told where they are not as the API has them by itself', () => {
  expect(canaryTerms({ ...startingCanary(), per: 'answer', userKey: ' customer ' }).goal).toEqual({ metric: 'errors', min_requests: 100, per: 'answer', user_key: 'customer' })
  expect(canaryTerms(startingCanary()).goal).toEqual({ metric: 'errors', min_requests: 100 })
})
