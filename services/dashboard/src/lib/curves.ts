/** Figures of a job as series for a chart. Pure. */

import type { Series } from './components/Chart.svelte'
import type { JobEvent } from './api/events.svelte'

export interface Curve {
  x: number[]
  series: Series[]
}

/** A training's loss at a step, as the trainer told it while it ran. */
export interface LossPoint {
  training: string
  step: number
  loss: number
}

/** Losses as one series for each training, over the steps of that training. */
export function lossCurve(points: LossPoint[]): Curve {
  const x = [...new Set(points.map(({ step }) => step))].sort((a, b) => a - b)
  const place = new Map(x.map((step, n) => [step, n]))
  const series = new Map<string, (number | null)[]>()
  for (const { training, step, loss } of points) {
    let values = series.get(training)
    if (!values) series.set(training, (values = x.map(() => null)))
    values[place.get(step) ?? 0] = loss
  }
  return { x, series: [...series].map(([label, values]) => ({ label, values })) }
}

/** The points of `step_metrics.csv`, the file of a job that has succeeded. Its names of trainings hold no comma. */
export function pointsOfCsv(text: string): LossPoint[] {
  const [header = '', ...lines] = text.trim().split(/\r?\n/)
  const columns = header.split(',')
  const [training, step, loss] = ['training', 'step_of_training', 'train_loss'].map((name) => columns.indexOf(name))
  if (training === undefined || step === undefined || loss === undefined || Math.min(training, step, loss) < 0) return []
  return lines.flatMap((line) => {
    const cells = line.split(',')
    const point = { training: cells[training] ?? '', step: Number(cells[step]), loss: Number(cells[loss]) }
    return cells[loss] && Number.isFinite(point.step) && Number.isFinite(point.loss) ? [point] : []
  })
}

/** Pass rates within the first n tries, one series for each round. */
export function passCurve(rounds: number[][]): Curve {
  const tries = Math.max(0, ...rounds.map((rates) => rates.length))
  const x = Array.from({ length: tries }, (_, n) => n + 1)
  return { x, series: rounds.map((rates, n) => ({ label: `round ${n + 1}`, values: x.map((at) => rates[at - 1] ?? null) })) }
}

/** Pass rates by round from a job's events; a round that was told twice counts as it was told last. events: newest first. */
export function roundsOfEvents(events: JobEvent[]): number[][] {
  const rounds = new Map<number, number[]>()
  for (const { data } of events) {
    const number = data?.['round']
    const rates = data?.['pass_rate']
    if (typeof number === 'number' && Array.isArray(rates) && !rounds.has(number)) rounds.set(number, rates as number[])
  }
  return [...rounds].sort(([a], [b]) => a - b).map(([, rates]) => rates)
}
