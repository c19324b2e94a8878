/** Which settings of jobs differ. Pure. */

import type { Job } from '../../lib/job'

export interface Setting {
  name: string
  /** One for each job, as text; "–" where it is not set. */
  values: string[]
}

/** What a job says of itself and was not asked for. */
const STATE = new Set(['usage', 'progress', 'phase', 'queue', 'status_reason', 'evaluation_result', 'estimate', 'forked_from', 'failure', 'adapters', 'models'])
const OWN = ['model', 'training_file', 'validation_file', 'seed', 'method', 'continues']

/** Every setting as "distillation.iterate.rounds". */
export function flat(value: unknown, name: string): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [[name, value]]
  return Object.entries(value).flatMap(([key, part]) => flat(part, `${name}.${key}`))
}

export function settingsOf(job: Job): Map<string, string> {
  const own = OWN.filter((name) => name in job).map((name): [string, unknown] => [name, (job as unknown as Record<string, unknown>)[name]])
  const spec = Object.entries(job.distillation).filter(([name]) => !STATE.has(name)).flatMap(([name, value]) => flat(value, name))
  return new Map([...own, ...spec].filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => [name, written(value)]))
}

const written = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

/** The settings that are not the same in all jobs, by name. */
export function differing(jobs: Job[]): Setting[] {
  const all = jobs.map(settingsOf)
  const names = [...new Set(all.flatMap((settings) => [...settings.keys()]))].sort()
  return names
    .map((name) => ({ name, values: all.map((settings) => settings.get(name) ?? '–') }))
    .filter(({ values }) => new Set(values).size > 1)
}
