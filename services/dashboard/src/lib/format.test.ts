import { expect, test } from 'vitest'
import { ago, between, bytes, clockOfDay, duration, percent, plural, short, signed, usd, words } from './format'

test.each([
  [30, 'less than a minute'], [60, 'a minute'], [750, '13 minutes'], [5400, '1 h 30 min'], [7200, '2 h'], [200_000, '2 days'],
])('%d seconds', (seconds, text) => expect(duration(seconds)).toBe(text)) // prettier-ignore

test('numbers as people read them', () => {
  expect([signed(0.1), signed(-0.0251, 2), signed(-0.0001), percent(0.291)]).toEqual(['+0.100', '−0.03', '0.000', '29 %'])
  expect([usd(5), usd(0.0123), short(9999), short(1_234_567)]).toEqual(['$5.00', '$0.0123', '9,999', '1.2M'])
  expect([bytes(900), bytes(1500), bytes(48_460)]).toEqual(['900 B', '1.5 kB', '48 kB'])
  expect([plural(1, 'job'), plural(1200, 'job'), words('validating_files'), ago(100, 130), ago(0, 3600)]).toEqual(['1 job', '1,200 jobs', 'validating files', 'just now', '60 minutes ago'])
})

test.each([
  [600, 1020, '10 to 17 minutes'], [30, 600, 'less than a minute to 10 minutes'], [60, 300, 'a minute to 5 minutes'], [3000, 7200, '50 minutes to 2 h'],
  [7200, 10_800, '2 to 3 h'], [7200, 9000, '2 h to 2 h 30 min'], [600, 610, '10 minutes'],
])('from %d to %d seconds', (low, high, text) => expect(between(low, high)).toBe(text)) // prettier-ignore

test('a time of another day names the day', () => {
  expect([clockOfDay(1_796_000_000, 1_796_000_060), clockOfDay(1_796_000_000, 1_796_200_000)].map((text) => text.includes(' '))).toEqual([false, true])
})
