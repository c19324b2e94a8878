/** Recipes: what their form asks, as the API takes it, and what they do, in words. Pure. */

import type { Schemas } from '../../lib/api/client'
import { canaryTerms, type CanaryWish } from '../../lib/canary'
import { plural } from '../../lib/format'
import { requestOf, type Job } from '../../lib/job'

export type Recipe = Schemas['RecipeObject']
type ChatsSource = Schemas['ChatsSource']
type Feedback = NonNullable<ChatsSource['feedback']>[number]

export const FEEDBACK: { value: Feedback; label: string; words: string }[] = [
  { value: 'down', label: 'thumbs down', words: 'rated down' },
  { value: 'corrected', label: 'corrected', words: 'corrected' },
  { value: 'up', label: 'thumbs up', words: 'rated up' },
  { value: 'none', label: 'nothing said', words: 'not rated' },
]

export interface RecipeWish {
  name: string
  /** The name whose served version each job goes on from; empty: the model of the job that it is like. */
  model: string
  source: 'file' | 'completions'
  file: string
  /** Which stored chats; empty fields choose all. */
  chatsOf: string
  feedback: Feedback[]
  metadata: string
  agreementBelow: number | null
  since: string
  until: string
  approved: boolean
  limit: number | null
  /** The dataset that grows; empty: the first run makes one. */
  dataset: string
  mask: boolean
  by: 'rows' | 'every'
  rows: number | null
  days: number | null
  dollars: number | null
  canary: CanaryWish | null
}

export const startingRecipe = (): RecipeWish => ({
  name: '', model: '', source: 'file', file: '', chatsOf: '', feedback: ['down', 'corrected'], metadata: '', agreementBelow: null, since: '', until: '',
  approved: false, limit: null, dataset: '', mask: true, by: 'rows', rows: 500, days: 7, dollars: null, canary: null,
}) // prettier-ignore

/** Pairs as in "team=sales, tier=gold"; null where one is none. */
export function readPairs(text: string): Record<string, string> | null {
  const pairs = text.split(',').map((pair) => pair.trim()).filter(Boolean)
  const split = pairs.map((pair) => [pair.slice(0, pair.indexOf('=')).trim(), pair.slice(pair.indexOf('=') + 1).trim()] as const)
  return pairs.every((pair) => pair.indexOf('=') > 0) ? Object.fromEntries(split) : null
}

/** What is missing before it can be posted. */
export function missing(wish: RecipeWish): string[] {
  return [
    ...(wish.name.trim() ? [] : ['a name']),
    ...(wish.source === 'file' && !wish.file ? ['a dataset'] : []),
    ...(wish.source === 'completions' && readPairs(wish.metadata) === null ? ['metadata as key=value'] : []),
    ...((wish.by === 'rows' ? wish.rows : wish.days) ? [] : ['when it makes a job']),
  ]
}

/** like: the job whose settings each of its jobs has. */
export function recipeRequest(wish: RecipeWish, like: Job): Schemas['RecipeRequest'] {
  const { training_file: _file, metadata, distillation, ...rest } = requestOf(like) as { [name: string]: unknown; metadata?: Record<string, string>; distillation: object }
  const { recipe: _recipe, recipe_run: _run, ...own } = metadata ?? {} // of the recipe that made that job
  const job = {
    ...rest,
    ...(wish.model && { model: wish.model }),
    ...(Object.keys(own).length && { metadata: own }),
    distillation: { ...distillation, ...(wish.canary && { canary: canaryTerms(wish.canary) }) },
  }
  return {
    name: wish.name.trim(),
    job,
    source: wish.source === 'file' ? { type: 'file', file: wish.file } : chatsSource(wish),
    trigger: wish.by === 'rows' ? { rows: wish.rows } : { every: `P${wish.days}D` },
    ...(wish.dollars != null && { budget: { max_usd: wish.dollars } }),
  } as Schemas['RecipeRequest']
}

function chatsSource(wish: RecipeWish): ChatsSource {
  const metadata = readPairs(wish.metadata) ?? {}
  return {
    type: 'completions',
    ...(wish.chatsOf && { model: wish.chatsOf }),
    ...(wish.feedback.length && { feedback: wish.feedback }),
    ...(Object.keys(metadata).length && { metadata }),
    ...(wish.agreementBelow != null && { agreement_below: wish.agreementBelow }),
    ...(wish.since && { since: midnight(wish.since) }),
    ...(wish.until && { until: midnight(wish.until) }),
    ...(wish.approved && { approved: true }),
    ...(wish.limit != null && { limit: wish.limit }),
    ...(wish.dataset && { dataset: wish.dataset }),
    ...(wish.mask && { mask: true }),
  }
}

/** When a day begins, in UTC, in seconds. */
const midnight = (day: string): number => Date.parse(`${day}T00:00:00Z`) / 1000

export function sourceWords(source: Recipe['source']): string {
  if (source.type === 'file') return 'the newest version of a dataset'
  const said = FEEDBACK.filter(({ value }) => source.feedback?.includes(value)).map((one) => one.words)
  const filters = [
    ...(said.length ? [said.join(' or ')] : []),
    ...Object.entries(source.metadata ?? {}).map(([name, value]) => `with ${name}=${value}`),
    ...(source.agreement_below == null ? [] : [`whose choices agree to less than ${source.agreement_below}`]),
  ]
  return [`stored chats${source.model ? ` of ${source.model}` : ''}`, ...filters].join(', ')
}

export function triggerWords({ trigger, source }: Recipe): string {
  if (trigger.rows != null) return `once there ${trigger.rows === 1 ? 'is' : 'are'} ${plural(trigger.rows, source.type === 'file' ? 'new row' : 'new chat')}`
  const days = /^P(\d+)D$/.exec(trigger.every ?? '')?.[1]
  return days ? (days === '1' ? 'every day' : `every ${days} days`) : `every ${trigger.every}`
}

/** What is counted towards the next job, and what it waits for. */
export function standingWords(recipe: Recipe): string {
  const unit = recipe.source.type === 'file' ? 'new row' : 'new chat'
  return [
    recipe.new_rows == null ? 'its source is gone' : plural(recipe.new_rows, unit),
    ...(recipe.waits_for ? [`waits for ${recipe.waits_for}`] : []),
  ].join('; ')
}
