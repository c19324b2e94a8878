import { describe, expect, it } from 'vitest'
import { difference, type Piece } from './difference'

const shown = (pieces: Piece[]) => pieces.map(({ kind, text }) => ({ same: text, removed: `[-${text}-]`, added: `{+${text}+}` })[kind]).join('')

describe('the difference of two texts', () => {
  it('marks words and keeps what is the same', () => {
    expect(shown(difference('wc -l notes.txt', 'wc -l *.txt | sort'))).toBe('wc -l [-notes-]{+*+}.txt{+ | sort+}')
    expect(shown(difference('cat notes', 'cat notes'))).toBe('cat notes')
  })
  it('reads back as both texts, for any texts', () => {
    const texts = ['', 'a b c d e', 'c a b e d', 'The sum of 2 and 3 is 5.', 'The sum of 3 and 2 is 6, not 5.', '日本語 テキスト', 'x'.repeat(50)]
    for (const before of texts)
      for (const after of texts) {
        const pieces = difference(before, after)
        expect(pieces.filter(({ kind }) => kind !== 'added').map(({ text }) => text).join('')).toBe(before)
        expect(pieces.filter(({ kind }) => kind !== 'removed').map(({ text }) => text).join('')).toBe(after)
      }
  })
  it('tells long texts apart as a whole in no time', () => {
    const text = (word: string) => Array.from({ length: 9000 }, (_, n) => `${word}${n}`).join(' ')
    const pieces = difference(text('a'), text('b'))
    expect(pieces.map(({ kind }) => kind)).toEqual(['removed', 'added'])
  })
})
