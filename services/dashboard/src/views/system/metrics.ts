/** Figures of the text that Prometheus reads. Pure. */

export interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g

/** All samples of a text in Prometheus' format; lines that are none are passed over. */
export function samples(text: string): Sample[] {
  return text.split('\n').flatMap((line) => {
    const parts = line.startsWith('#') ? null : LINE.exec(line)
    const value = parts ? Number(parts[3]) : NaN
    if (!parts || Number.isNaN(value)) return []
    const labels = Object.fromEntries([...(parts[2] ?? '').matchAll(LABEL)].map(([, name, told]) => [name ?? '', unescaped(told ?? '')]))
    return [{ name: parts[1] ?? '', labels, value }]
  })
}

const unescaped = (text: string): string => text.replace(/\\(.)/g, (_, letter: string) => (letter === 'n' ? '\n' : letter))

export interface Chats {
  model: string
  project: string
  /** served, canary, shadow, ... as the API counts it. */
  role: string
  all: number
  failed: number
  /** Mean seconds from question to end of those that were answered; null without any. */
  seconds: number | null
}

/** Chats by model, the most asked first, since the API started. */
export function chats(all: Sample[]): Chats[] {
  const made = new Map<string, Chats & { sum: number; ended: number }>()
  const at = ({ labels }: Sample) => {
    const { alias = '', version = '', project = '', role = '' } = labels
    const key = JSON.stringify([alias, version, project, role])
    const model = version && version !== alias ? `${alias}@${version}` : alias
    const known = made.get(key) ?? { model, project, role, all: 0, failed: 0, seconds: null, sum: 0, ended: 0 }
    made.set(key, known)
    return known
  }
  for (const sample of all) {
    if (sample.name === 'meteor_chat_requests_total') {
      const one = at(sample)
      one.all += sample.value
      if (sample.labels['outcome'] === 'error') one.failed += sample.value
    } else if (sample.name === 'meteor_chat_seconds_sum') at(sample).sum += sample.value
    else if (sample.name === 'meteor_chat_seconds_count') at(sample).ended += sample.value
  }
  return [...made.values()]
    .filter((one) => one.all > 0)
    .map(({ sum, ended, ...one }) => ({ ...one, seconds: ended ? sum / ended : null }))
    .sort((a, b) => b.all - a.all)
}
