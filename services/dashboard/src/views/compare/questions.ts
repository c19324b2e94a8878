/** Two students on the same questions. Pure. */

import type { Schemas } from '../../lib/api/client'
import type { Triple, WinRecord } from '../../lib/report'

export type Outcome = Schemas['OutcomeObject']

export interface Side {
  answer: string
  score: number | null
}

export interface Row {
  question: string
  reference: string | null
  left: Side
  right: Side
  /** How much higher the right one scores; null where one of them has no score. */
  gain: number | null
}

export type Show = 'scores' | 'right' | 'left' | 'answers' | 'all'
export const SHOWS: Record<Show, string> = {
  scores: 'whose scores differ',
  right: 'where the right one is better',
  left: 'where the left one is better',
  answers: 'whose answers differ',
  all: 'all of them',
}

/** The students that were measured, in the order of the job. */
export const studentsOf = (outcomes: Outcome[]): string[] => [...new Set(outcomes.flatMap((one) => (one.measured ?? []).map(({ student }) => student)))]

/** The questions that both have answered, the greatest differences first. They are matched by their text: files may name rows differently. */
export function rowsOf(left: Outcome[], leftStudent: string, right: Outcome[], rightStudent: string, metric: string): Row[] {
  const others = new Map(right.map((one) => [one.question, one]))
  const rows = left.flatMap((one): Row[] => {
    const before = sideOf(one, leftStudent, metric)
    const after = sideOf(others.get(one.question), rightStudent, metric)
    if (!before || !after) return []
    const gain = before.score === null || after.score === null ? null : after.score - before.score
    return [{ question: one.question, reference: one.reference ?? null, left: before, right: after, gain }]
  })
  return rows.sort((a, b) => Math.abs(b.gain ?? 0) - Math.abs(a.gain ?? 0))
}

function sideOf(outcome: Outcome | undefined, student: string, metric: string): Side | null {
  const measured = outcome?.measured?.find((one) => one.student === student)
  return measured ? { answer: measured.answer, score: measured.scores?.[metric] ?? null } : null
}

export function shownOf(rows: Row[], show: Show): Row[] {
  return rows.filter(({ gain, left, right }) => {
    if (show === 'scores') return gain !== null && gain !== 0
    if (show === 'right') return gain !== null && gain > 0
    if (show === 'left') return gain !== null && gain < 0
    return show === 'all' || left.answer.trim() !== right.answer.trim()
  })
}

export const recordOf = (rows: Row[]): WinRecord => ({
  win: rows.filter(({ gain }) => gain !== null && gain > 0).length,
  tie: rows.filter(({ gain }) => gain === 0).length,
  loss: rows.filter(({ gain }) => gain !== null && gain < 0).length,
})

const Z = 1.959964
const LEAST = 10 // of fewer differences the normal distribution says nothing

/** The mean gain of the right one, paired by question, with its 95 % interval; null where there are too few questions. */
export function gainOf(rows: Row[]): Triple | null {
  const gains = rows.flatMap(({ gain }) => (gain === null ? [] : [gain]))
  if (gains.length < LEAST) return null
  const mean = gains.reduce((sum, gain) => sum + gain, 0) / gains.length
  const variance = gains.reduce((sum, gain) => sum + (gain - mean) ** 2, 0) / (gains.length - 1)
  const half = Z * Math.sqrt(variance / gains.length)
  return [mean, mean - half, mean + half]
}
