/** A request of this page as curl, Python and JSON, to be copied. */

const KEY = '$METEOR_API_KEY'

export interface Call {
  method: 'POST' | 'PATCH'
  path: string
  body: unknown
}

export function formsOf(call: Call, origin: string, withKey: boolean): Record<string, string> {
  const json = JSON.stringify(call.body, null, 2)
  return { curl: asCurl(call, origin, withKey, json), Python: asPython(call, origin, withKey), JSON: json }
}

/** A text as one word of a POSIX shell. */
export const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

function asCurl({ method, path }: Call, origin: string, withKey: boolean, json: string): string {
  const key = withKey ? ` \\\n  -H "authorization: Bearer ${KEY}"` : ''
  return `curl -X ${method} ${origin}${path}${key} \\\n  -H 'content-type: application/json' \\\n  -d ${quoted(json)}`
}

function asPython({ method, path, body }: Call, origin: string, withKey: boolean): string {
  const headers = withKey ? `\nheaders = {"authorization": f"Bearer {os.environ['METEOR_API_KEY']}"}` : ''
  const imports = withKey ? 'import os\n\nimport httpx\n' : 'import httpx\n'
  const given = withKey ? ', headers=headers' : ''
  return `${imports}${headers}\nbody = ${pythonOf(body)}\nanswer = httpx.${method.toLowerCase()}("${origin}${path}", json=body${given})\nanswer.raise_for_status()\nprint(answer.json()["id"])\n`
}

/** A JSON value as a literal of Python. */
export function pythonOf(value: unknown, indent = ''): string {
  if (value === null || value === undefined) return 'None'
  if (value === true) return 'True'
  if (value === false) return 'False'
  const deeper = `${indent}    `
  if (Array.isArray(value)) {
    if (!value.length) return '[]'
    return `[\n${value.map((item) => `${deeper}${pythonOf(item, deeper)},\n`).join('')}${indent}]`
  }
  if (typeof value === 'object') {
    const entries = Object.entries(value)
    if (!entries.length) return '{}'
    return `{\n${entries.map(([name, item]) => `${deeper}${JSON.stringify(name)}: ${pythonOf(item, deeper)},\n`).join('')}${indent}}`
  }
  return JSON.stringify(value) // JSON's texts and numbers are Python's too
}
