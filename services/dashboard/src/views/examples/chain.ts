/** One example's chain of steps as sections to read. Pure. */

import type { Schemas } from '../../lib/api/client'
import { decimal, words } from '../../lib/format'
import { parseKey } from '../../lib/job'
import { by, why, type Tone } from './outcome'

export type Lineage = Schemas['LineageObject']

export interface Text {
  label: string
  text: string
  /** What it is compared with; its differences are marked. against: what that is. */
  before?: string
  against?: string
}

export interface Link {
  step: string
  title: string
  /** The student or version that the step worked with. */
  who: string | null
  at: number
  texts: Text[]
  verdict: { tone: Tone; text: string } | null
  /** The versions that a training made, as names, else its content hash. */
  made: string[]
}

export interface Chapter {
  name: string
  about: string
  links: Link[]
}

type Json = Record<string, unknown>
const ABOUT: Record<string, string> = {
  pilot: 'is the teacher usable, and do guidelines help',
  distill: 'the student writes a guideline, the teacher answers under it',
  iterate: 'the student tries, is told why it is wrong, and tries again',
  evolve: 'a better search against a plain one, or what passes against what fails',
  evaluate: 'students on dev and test, and the baselines',
}

export function chaptersOf(lineage: Lineage): Chapter[] {
  const chapters = new Map<string, Link[]>()
  const versions = new Map<string, string[]>()
  for (const { adapter, model } of lineage.models) versions.set(adapter, [...(versions.get(adapter) ?? []), model])
  for (const raw of lineage.chain) {
    const link = linkOf(raw as Json, versions)
    const { phase } = parseKey(link.step)
    chapters.set(phase, [...(chapters.get(phase) ?? []), link])
  }
  return [...chapters].map(([name, links]) => ({ name, about: ABOUT[name] ?? '', links }))
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const object = (value: unknown): Json => (typeof value === 'object' && value !== null ? (value as Json) : {})
const list = (value: unknown): Json[] => (Array.isArray(value) ? value.map(object) : [])
const some = (label: string, value: unknown, before?: unknown, against = ''): Text[] =>
  text(value) ? [{ label, text: text(value), ...(text(before) && { before: text(before), against }) }] : []

const KINDS: Record<string, string> = {
  'weak.guide': 'Guideline', 'weak.answer': 'Answer', 'weak.reason': 'Try', 'weak.sample': 'Samples', 'strong.teach': 'Teacher response',
  'judge.review': 'Verdict', 'judge.grade': 'Grades', 'judge.compare': 'Comparison', 'judge.rate': 'Scores', 'judge.agree': 'Votes',
  'train.sft': 'Learned', 'train.prefer': 'Learned as a pair', 'train.search': 'Pair', 'train.score': 'Likelihood',
} // prettier-ignore

/** "Try 2, round 1". */
function titleOf(kind: string, step: string): string {
  const { phase, round, role } = parseKey(step)
  const attempt = /^try-(\d+)/.exec(role)?.[1]
  const name = KINDS[kind] ?? words(kind.split('.').pop() ?? kind)
  const numbered = attempt ? (name === 'Try' ? `Try ${attempt}` : `${name} of try ${attempt}`) : name
  const where = round === null ? (phase === 'evaluate' ? role.replace(/\/[^/]*$/, '').replaceAll('/', ', ') : '') : `${phase === 'evolve' ? 'turn' : 'round'} ${round}`
  return where ? `${numbered}, ${where}` : numbered
}

function linkOf(raw: Json, versions: Map<string, string[]>): Link {
  const kind = text(raw['kind'])
  const adapter = text(raw['adapter'])
  const given = object(raw['given'])
  const made = raw['made'] == null ? null : object(raw['made'])
  const student = text(raw['student'])
  return {
    step: text(raw['step']),
    title: titleOf(kind, text(raw['step'])),
    who: student ? (versions.get(student)?.join(', ') ?? (student === 'base' ? 'the base' : `checkpoint ${student.slice(0, 8)}`)) : null,
    at: typeof raw['finished_at'] === 'number' ? raw['finished_at'] : 0,
    made: adapter ? (versions.get(adapter) ?? [adapter.slice(0, 8)]) : [],
    ...(made === null && !adapter ? { texts: [], verdict: { tone: 'warn' as const, text: 'the step has no result for it' } } : contentOf(kind, given, made ?? {})),
  }
}

function contentOf(kind: string, given: Json, made: Json): Pick<Link, 'texts' | 'verdict'> {
  const cut = made['finish_reason'] === 'length' ? ({ tone: 'warn', text: 'cut off at its limit of tokens' } as const) : null
  switch (kind) {
    case 'weak.guide':
      return { texts: some('guideline', made['guideline']), verdict: cut }
    case 'strong.teach': {
      const outcome = text(made['outcome'])
      const verdict = outcome === 'ok' ? { tone: 'good' as const, text: 'usable' } : { tone: 'bad' as const, text: why(outcome) }
      const samples = list(made['samples']).map((one, n) => ({ label: `sample ${n + 1}`, text: text(one['answer']) }))
      return { texts: [...some('rationale', made['rationale']), ...some('answer', made['answer'], given['reference'], 'the reference'), ...samples], verdict }
    }
    case 'weak.answer':
    case 'weak.reason':
      return {
        texts: [...some('the hint it got', given['critique']), ...some('rationale', made['rationale']), ...some('answer', made['answer'], given['previous'], 'the try before')],
        verdict: cut,
      }
    case 'weak.sample': {
      const completions = list(made['completions'])
      return { texts: completions.map((one, n) => ({ label: `sample ${n + 1}`, text: text(one['answer']) })), verdict: null }
    }
    case 'judge.review': {
      const passed = made['passed'] === true
      const leaked = made['leaked'] === true ? '; its hint held the reference and was dropped' : ''
      return { texts: some('critique', made['critique']), verdict: { tone: passed ? 'good' : 'bad', text: `${passed ? 'passed' : 'not passed'}, ${by(text(made['by']))}${leaked}` } }
    }
    case 'judge.grade':
    case 'judge.rate': {
      const scores = Object.entries(object(made['scores'])).flatMap(([name, score]) => (typeof score === 'number' ? `${name} ${decimal(score)}` : []))
      return { texts: [], verdict: { tone: 'plain', text: scores.join(', ') || 'no scores' } }
    }
    case 'judge.compare': {
      const winner = text(object(made['winners'])['overall'])
      const turned = Array.isArray(made['flipped']) && made['flipped'].includes('overall')
      const told = made['parsed'] === false ? 'no verdict' : turned ? 'a tie: the verdict turned with the order' : winner === 'tie' ? 'a tie' : `the ${winner} is better`
      return { texts: [...some('first', given['first']), ...some('second', given['second'], given['first'], 'the first')], verdict: { tone: turned ? 'warn' : 'plain', text: told } }
    }
    case 'train.search':
      return { texts: [...some('rejected', made['rejected']), ...some('chosen', made['chosen'], made['rejected'], 'the rejected side')], verdict: made['chosen'] === made['rejected'] ? { tone: 'warn', text: 'both are the same, so there is no pair' } : null }
    case 'train.score':
      return { texts: some('completion', given['completion']), verdict: typeof made['nll'] === 'number' ? { tone: 'plain', text: `${decimal(made['nll'])} nats per token` } : null }
    default:
      if (given['chosen'] !== undefined) return { texts: [...some('rejected', given['rejected']), ...some('chosen', given['chosen'], given['rejected'], 'the rejected side')], verdict: null }
      return { texts: some('completion', given['completion']), verdict: null }
  }
}
