/** The events of a job, live. Older ones are loaded on demand; the newest are kept. */

import { untrack } from 'svelte'
import { api, ask, OPTIONS, send, type Schemas } from './client'
import type { Listed } from './queries.svelte'
import { follow, type StreamState } from './stream'

export type JobEvent = Schemas['EventObject']
const FIRST = 100
const KEPT = 2000

export class JobEvents {
  /** Newest first. */
  list = $state.raw<JobEvent[]>([])
  state = $state<StreamState>('connecting')
  hasOlder = $state(false)
  private stop = new AbortController()

  /** onNews: after each piece of new events. */
  constructor(
    private readonly jobId: string,
    private readonly onNews: (events: JobEvent[]) => void = () => {},
  ) {}

  /** Follows the stream while the page is seen. Returns what ends it. */
  open(): () => void {
    const seen = () => (document.hidden ? this.stop.abort() : void this.begin())
    document.addEventListener('visibilitychange', seen)
    untrack(seen) // an effect that opens it does not run again with each event
    return () => {
      document.removeEventListener('visibilitychange', seen)
      this.stop.abort()
    }
  }

  async older(): Promise<void> {
    const page = await this.page(this.list.at(-1)?.id)
    this.list = [...this.list, ...page.data]
    this.hasOlder = page.has_more
  }

  private async page(after?: string): Promise<Listed<JobEvent>> {
    const params = { path: { job_id: this.jobId }, query: { limit: FIRST, ...(after && { after }) } }
    const page = await ask(api.GET('/v1/distillation/jobs/{job_id}/events', { params }))
    return page as Listed<JobEvent> // the other form in the document is the stream, which this request does not ask for
  }

  private async begin(): Promise<void> {
    this.stop.abort()
    const { signal } = (this.stop = new AbortController())
    if (!this.list.length) {
      try {
        const page = await this.page()
        if (signal.aborted) return
        this.list = page.data
        this.hasOlder = page.has_more
      } catch {
        // the stream asks again, and tells everything from the first event
      }
    }
    const url = new URL(`/v1/distillation/jobs/${encodeURIComponent(this.jobId)}/events`, location.origin)
    await follow({
      lastId: this.list[0]?.id ?? null,
      signal,
      onState: (state) => (this.state = state),
      open: (lastId, signal) => {
        const headers = { accept: 'text/event-stream', ...(lastId && { 'last-event-id': lastId }) }
        return send(new Request(url, { ...OPTIONS, headers, signal }))
      },
      onEvents: (pieces) => this.add(pieces.map((piece) => JSON.parse(piece.data) as JobEvent)),
    })
  }

  private add(events: JobEvent[]): void {
    const all = [...events.reverse(), ...this.list]
    this.hasOlder ||= all.length > KEPT
    this.list = all.slice(0, KEPT)
    this.onNews(events)
  }
}
