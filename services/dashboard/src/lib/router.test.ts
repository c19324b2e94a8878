import { expect, test } from 'vitest'
import { href, match } from './router.svelte'

test.each([
  ['/', '/', {}],
  ['/jobs/:id', '/jobs/ftjob-1', { id: 'ftjob-1' }],
  ['/jobs/:id', '/jobs/a%2Fb', { id: 'a/b' }],
  ['/jobs/:id', '/jobs', null],
  ['/jobs/:id', '/jobs/1/examples', null],
  ['/jobs/:id/examples/*example', '/jobs/1/examples/x/y%20z', { id: '1', example: 'x/y z' }],
  ['/jobs/:id/examples/*example', '/jobs/1/examples', null],
  ['/jobs/:id', '/jobs/%E0%A4%A', { id: '%E0%A4%A' }],
])('%s against %s', (pattern, path, params) => expect(match(pattern, path)).toEqual(params))

test('addresses stand below /ui', () => expect([href('/'), href('/jobs/new')]).toEqual(['/ui/', '/ui/jobs/new']))
