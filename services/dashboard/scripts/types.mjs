// Writes src/lib/api/schema.d.ts from the API's document. It is made before each check and is not committed.
import { writeFile } from 'node:fs/promises'
import openapiTS, { astToString } from 'openapi-typescript'
import ts from 'typescript'

const source = new URL('../../../openapi.json', import.meta.url)
const target = new URL('../src/lib/api/schema.d.ts', import.meta.url)

/** Tuples become arrays: openapi-fetch reads an answer's tuples as arrays, and the two would not fit. */
function transform(schema) {
  if (!('prefixItems' in schema)) return undefined
  const numbers = schema.prefixItems.every(({ type }) => type === 'number' || type === 'integer')
  const item = numbers ? ts.SyntaxKind.NumberKeyword : ts.SyntaxKind.UnknownKeyword
  return ts.factory.createArrayTypeNode(ts.factory.createKeywordTypeNode(item))
}

const tree = await openapiTS(source, { defaultNonNullable: false, transform })
await writeFile(target, `// Made from openapi.json by \`npm run types\`.\n${astToString(tree)}`)
