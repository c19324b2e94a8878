/** Pages of the API that open in a tab of their own, and files that are saved. */

import { download } from './api/client'
import { apiKey } from './api/key.svelte'

const KEPT_MS = 60_000

/** Opens a page that the key may be needed for: a tab sends none by itself. Throws ApiError. */
export async function openPage(path: string): Promise<void> {
  if (!apiKey.value) {
    open(path, '_blank', 'noopener')
    return
  }
  const address = URL.createObjectURL(await download(path, 'text/html'))
  open(address, '_blank', 'noopener')
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS)
}

/** Saves a file of the API where the browser keeps downloads. Throws ApiError. */
export async function saveFile(path: string, name: string): Promise<void> {
  const address = URL.createObjectURL(await download(path))
  const link = document.createElement('a')
  link.href = address
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS)
}
