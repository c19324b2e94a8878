// Writes the hash of the sources beside the built files. tests/unit/test_dashboard.py computes it again, so that a forgotten
// build is noticed without Node. One line for each source: hash of its bytes, two spaces, path; sorted by path.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const single = [
  '../../examples/shell.job.json', '../../examples/shell.jsonl',
  'index.html', 'package.json', 'package-lock.json', 'svelte.config.js', 'vite.config.ts',
] // prettier-ignore
const below = readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && !/(\.test\.ts|\.d\.ts)$/.test(entry.name))
  .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const lines = [...single, ...below].sort().map((path) => `${sha256(readFileSync(join(root, path)))}  ${path}\n`)
writeFileSync(join(root, '../api/features/dashboard/built/SOURCES.sha256'), `${sha256(lines.join(''))}\n`)
