import { expect, test } from 'vitest'
import { startingCanary } from '../../lib/canary'
import type { Job } from '../../lib/job'
import { missing, readPairs, recipeRequest, sourceWords, standingWords, startingRecipe, triggerWords, type Recipe } from './recipes'

const LIKE = {
  id: 'ftjob-1', model: 'tiny', training_file: 'file-1', suffix: 'shell', seed: 3, metadata: { recipe: 'recipe-9', recipe_run: '2', team: 'a' },
  distillation: { domain: 'the shell', status: 'succeeded', usage: {} },
} as unknown as Job // prettier-ignore
const WISH = { ...startingRecipe(), name: ' weekly ' }
const recipe = (more: object) => ({ source: { type: 'file', file: 'file-1' }, trigger: { rows: 500 }, new_rows: 3, waits_for: null, ...more }) as unknown as Recipe

test('a recipe of a dataset has the settings of a job, without its file', () => {
  expect(recipeRequest({ ...WISH, file: 'file-2', rows: 50, dollars: 5 }, LIKE)).toEqual({
    name: 'weekly', job: { model: 'tiny', suffix: 'shell', seed: 3, metadata: { team: 'a' }, distillation: { domain: 'the shell' } },
    source: { type: 'file', file: 'file-2' }, trigger: { rows: 50 }, budget: { max_usd: 5 },
  }) // prettier-ignore
})

test('a recipe of stored chats says which, and how its versions are tried', () => {
  const wish = { ...WISH, source: 'completions' as const, model: 'shell', chatsOf: 'shell', metadata: 'team=sales, tier=gold', agreementBelow: 0.6, since: '2026-01-02', approved: true, limit: 900, dataset: 'file-3', by: 'every' as const, canary: { ...startingCanary(), userKey: 'customer' } }
  const body = recipeRequest(wish, LIKE)
  expect(body.source).toEqual({
    type: 'completions', model: 'shell', feedback: ['down', 'corrected'], metadata: { team: 'sales', tier: 'gold' }, agreement_below: 0.6, since: 1767312000,
    approved: true, limit: 900, dataset: 'file-3', mask: true,
  }) // prettier-ignore
  expect(body.trigger).toEqual({ every: 'P7D' })
  expect(body.job).toMatchObject({ model: 'shell', distillation: { domain: 'the shell', canary: { goal: { metric: 'errors', user_key: 'customer' }, steps: [5, 25, 50] } } })
  expect(recipeRequest({ ...startingRecipe(), name: 'all', source: 'completions', feedback: [], mask: false }, LIKE).source).toEqual({ type: 'completions' })
})

test('what is missing is named', () => {
  expect(missing(startingRecipe())).toEqual(['a name', 'a dataset'])
  expect(missing({ ...WISH, source: 'completions', metadata: 'sales', rows: null })).toEqual(['metadata as key=value', 'when it makes a job'])
  expect(missing({ ...WISH, source: 'completions' })).toEqual([])
  expect(readPairs('=a')).toBeNull()
  expect(readPairs(' ')).toEqual({})
})

test('a recipe tells its source, its trigger and where it stands', () => {
  expect(sourceWords({ type: 'completions', model: 'shell', feedback: ['corrected', 'down'], metadata: { team: 'a' }, approved: false, mask: true })).toBe('stored chats of shell, rated down or corrected, with team=a')
  expect([triggerWords(recipe({})), triggerWords(recipe({ trigger: { every: 'P1D' } })), triggerWords(recipe({ trigger: { every: 'P7D' } })), triggerWords(recipe({ trigger: { every: 'PT12H' } }))]).toEqual(['once there are 500 new rows', 'every day', 'every 7 days', 'every PT12H'])
  expect(standingWords(recipe({ waits_for: 'ftjob-2' }))).toBe('3 new rows; waits for ftjob-2')
  expect(standingWords(recipe({ new_rows: null }))).toBe('its source is gone')
})
