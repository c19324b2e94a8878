/** Whether the API answers. While it does not, it is asked every few seconds, and all queries are repeated once it does. */

const FIRST_S = 1
const LONGEST_S = 15

class Connection {
  away = $state(false)
  private timer: ReturnType<typeof setTimeout> | undefined
  private listeners = new Set<() => void>()

  /** Returns what takes the listener away. */
  onReturn(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  answered(): void {
    if (!this.away) return
    this.away = false
    clearTimeout(this.timer)
    for (const listener of this.listeners) listener()
  }

  lost(): void {
    if (this.away) return
    this.away = true
    this.probe(FIRST_S)
  }

  private probe(waitS: number): void {
    this.timer = setTimeout(async () => {
      try {
        if ((await fetch('/healthz', { cache: 'no-store', credentials: 'omit' })).ok) return this.answered()
      } catch {
        // still away
      }
      this.probe(Math.min(waitS * 2, LONGEST_S))
    }, waitS * 1000)
  }
}

export const connection = new Connection()
