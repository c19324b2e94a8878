/** The example that comes with this page: questions about the Linux command line, and a job for them. */

import job from '../../../../../examples/shell.job.json'
import address from '../../../../../examples/shell.jsonl?url'
import { download } from '../../lib/api/client'
import { formOf, type JobForm } from './form'

export const exampleForm = (): JobForm => formOf(job)

export async function exampleFile(): Promise<File> {
  return new File([await download(address)], 'shell.jsonl', { type: 'application/jsonl' })
}
