/** Which field of a file is which of ours: what messages of the API, written for a command line, say of it. Pure. */

const OPTION = /--map (?:'([^'=]+)=([^']*)'|([\w.]+)=([^\s,)]*))/g

/** The mapping that a message suggests first, as in `--map question=body --map 'reference=the answer'`. */
export function suggestedMapping(message: string): Record<string, string> | null {
  const mapping: Record<string, string> = {}
  for (const [, quotedField, quotedColumn, field, column] of message.matchAll(OPTION)) {
    mapping[quotedField ?? field ?? ''] ??= quotedColumn ?? column ?? ''
  }
  const columns = Object.values(mapping)
  return columns.length && !columns.includes('FIELD') ? mapping : null
}

/** The message without options of a command: `question = "body"`. */
export const withoutOptions = (message: string): string =>
  message
    .replace(OPTION, (_, quotedField, quotedColumn, field, column) => `${quotedField ?? field} = "${quotedColumn ?? column}"`)
    .replace(/" (?=[\w.]+ = ")/g, '", ')
    .replace(/;? ?\(?over HTTP the field mapping\)?/g, '')
