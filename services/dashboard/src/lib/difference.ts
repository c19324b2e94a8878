/** What differs between two texts, word by word: the longest common subsequence. Pure. */

export interface Piece {
  kind: 'same' | 'removed' | 'added'
  text: string
}

const MOST_CELLS = 4_000_000 // of the table; longer texts are told apart as a whole

/** Words, spaces and signs, each of its own. */
const tokens = (text: string): string[] => text.match(/[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu) ?? []

export function difference(before: string, after: string): Piece[] {
  const a = tokens(before)
  const b = tokens(after)
  let start = 0
  while (start < a.length && start < b.length && a[start] === b[start]) start++
  let end = 0
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++
  const middle = changed(a.slice(start, a.length - end), b.slice(start, b.length - end))
  return joined([...whole('same', a.slice(0, start)), ...middle, ...whole('same', end ? a.slice(-end) : [])])
}

const whole = (kind: Piece['kind'], words: string[]): Piece[] => (words.length ? [{ kind, text: words.join('') }] : [])

function changed(a: string[], b: string[]): Piece[] {
  if (!a.length || !b.length || a.length * b.length > MOST_CELLS) return [...whole('removed', a), ...whole('added', b)]
  const width = b.length + 1
  const common = new Uint32Array((a.length + 1) * width) // length of what a[i:] and b[j:] have in common
  const at = (i: number, j: number) => common[i * width + j] ?? 0
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
  const pieces: Piece[] = []
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      pieces.push({ kind: 'same', text: a[i] ?? '' })
      i++
      j++
    } else if (j >= b.length || (i < a.length && at(i + 1, j) >= at(i, j + 1))) pieces.push({ kind: 'removed', text: a[i++] ?? '' })
    else pieces.push({ kind: 'added', text: b[j++] ?? '' })
  }
  return pieces
}

/** Neighbours of one kind as one piece; between two spaces the removed words stand before the added ones. */
function joined(pieces: Piece[]): Piece[] {
  const result: Piece[] = []
  let removed = ''
  let added = ''
  const flush = () => {
    if (removed) result.push({ kind: 'removed', text: removed })
    if (added) result.push({ kind: 'added', text: added })
    removed = added = ''
  }
  for (const { kind, text } of pieces) {
    if (kind === 'removed') removed += text
    else if (kind === 'added') added += text
    else {
      flush()
      const last = result.at(-1)
      if (last?.kind === 'same') last.text += text
      else result.push({ kind, text })
    }
  }
  flush()
  return result
}
