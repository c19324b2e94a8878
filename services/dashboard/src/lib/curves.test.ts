import { expect, test } from 'vitest'
import { lossCurve, passCurve, pointsOfCsv, roundsOfEvents } from './curves'
import type { JobEvent } from './api/events.svelte'

test('the file of losses becomes a series for each training', () => {
  const csv = 'step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy,training,step_of_training\n1,2.5,,,,distill/train,1\n2,1.5,,,,distill/train,2\n3,0.9,,,,iterate/1/train,1\n4,,,,,iterate/1/train,2\n'
  expect(lossCurve(pointsOfCsv(csv))).toEqual({ x: [1, 2], series: [{ label: 'distill/train', values: [2.5, 1.5] }, { label: 'iterate/1/train', values: [0.9, null] }] })
  expect(pointsOfCsv('something,else\n1,2\n')).toEqual([])
})

test('rounds are told by events, the last word counts', () => {
  const event = (data: object) => ({ data }) as unknown as JobEvent
  const rounds = roundsOfEvents([event({ round: 2, pass_rate: [0.5, 0.7] }), event({ round: 1, pass_rate: [0.4] }), event({ round: 1, pass_rate: [0.1] }), event({ phase: 'distill' })])
  expect(rounds).toEqual([[0.4], [0.5, 0.7]])
  expect(passCurve(rounds)).toEqual({ x: [1, 2], series: [{ label: 'round 1', values: [0.4, null] }, { label: 'round 2', values: [0.5, 0.7] }] })
  expect(passCurve([])).toEqual({ x: [], series: [] })
})
