/** Which models are asked, and which grader looks at their answers. Pure. */

import type { Schemas } from '../../lib/api/client'
import type { Job } from '../../lib/job'

type Model = Schemas['ModelObject']
export type Grader = Schemas['GraderRunRequest']['grader']
export const MOST = 4

export interface Offer {
  id: string
  kind: 'base' | 'served' | 'version'
  about: string
}

/** What can be asked: bases, aliases, then versions, newest first. */
export function offersOf(models: Model[]): Offer[] {
  const offers = models.map((model): Offer => {
    if (model.version == null) return { id: model.id, kind: 'base', about: 'base' }
    if (model.id.includes('@')) return { id: model.id, kind: 'version', about: `version of ${model.id.split('@')[0]}, on ${model.parent}` }
    return { id: model.id, kind: 'served', about: `serves version ${model.version}, on ${model.parent}` }
  })
  const rank = { base: 0, served: 1, version: 2 }
  return offers.sort((a, b) => rank[a.kind] - rank[b.kind])
}

/** The names of the address that exist, else the newest alias beside its base. */
export function chosenOf(named: string | null, models: Model[]): string[] {
  const ids = new Set(models.map((model) => model.id))
  const given = (named ?? '').split(',').filter((name) => ids.has(name))
  if (given.length) {
    const only = given.length === 1 ? models.find((model) => model.id === given[0]) : undefined
    return [...(only?.parent && ids.has(only.parent) ? [only.parent] : []), ...new Set(given)].slice(0, MOST)
  }
  const served = models.find((model) => model.version != null && !model.id.includes('@'))
  const base = served?.parent ?? models.find((model) => model.version == null)?.id
  return [base, served?.id].filter((id): id is string => id !== undefined && ids.has(id))
}

/** What says in the job whether an answer is right, and from which score. */
export function graderOf(job: Job): { grader: Grader; passMark: number; name: string } {
  const { judge, primary_metric } = job.distillation
  const grader = (judge?.grader ?? primary_metric ?? 'chrf') as Grader
  return { grader, passMark: judge?.grader ? (judge.pass_mark ?? 1) : 1, name: typeof grader === 'string' ? grader : grader.type }
}

/** The job whose grader fits the chosen models: the newest of their aliases. jobs: newest first. */
export function jobFor(chosen: string[], jobs: Job[]): Job | undefined {
  const aliases = new Set(chosen.map((id) => id.split('@')[0]))
  return jobs.find((job) => aliases.has(job.suffix))
}
