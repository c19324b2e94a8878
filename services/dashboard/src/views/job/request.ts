/** The body that would post a job like this one: what its object says, without what only the server says of a job. */

import type { Job } from '../../lib/job'

const ASKED = ['model', 'training_file', 'validation_file', 'suffix', 'seed', 'hyperparameters', 'metadata'] as const
const TOLD = ['forked_from', 'status', 'phase', 'status_reason', 'failure', 'queue', 'progress', 'usage', 'estimate', 'evaluation_result']

export function requestOf(job: Job): Record<string, unknown> {
  const distillation = Object.fromEntries(Object.entries(job.distillation).filter(([name]) => !TOLD.includes(name)))
  const asked = ASKED.flatMap((name) => (job[name] == null ? [] : [[name, job[name]] as const]))
  return { ...Object.fromEntries(asked), distillation }
}
