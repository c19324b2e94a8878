/** The API key. It is kept for this tab, or on this device if the user asks for it, and is sent as a header only. */

const NAME = 'meteor.key'

/** Storage may be forbidden by the browser's settings; then the key lasts as long as the page. */
function stored(kind: 'sessionStorage' | 'localStorage'): Storage | null {
  try {
    return globalThis[kind] ?? null
  } catch {
    return null
  }
}

class ApiKey {
  value = $state('')
  /** Whether the API wants a key, or refuses this one. */
  wanted = $state(false)

  constructor() {
    this.value = stored('sessionStorage')?.getItem(NAME) ?? stored('localStorage')?.getItem(NAME) ?? ''
  }

  use(value: string, remember: boolean): void {
    this.forget()
    this.value = value.trim()
    this.wanted = false
    stored(remember ? 'localStorage' : 'sessionStorage')?.setItem(NAME, this.value)
  }

  forget(): void {
    this.value = ''
    for (const kind of ['sessionStorage', 'localStorage'] as const) stored(kind)?.removeItem(NAME)
  }
}

export const apiKey = new ApiKey()
