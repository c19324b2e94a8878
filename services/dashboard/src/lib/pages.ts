/** Pages of the API that open in a tab of their own. */

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
