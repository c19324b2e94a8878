/** TanStack Query as this dashboard uses it: one client, and lists that are paged by the API's cursors. */

import { QueryClient, createInfiniteQuery, type QueryKey } from '@tanstack/svelte-query'
import { connection } from './connection.svelte'
import { ApiError } from './errors'

const MOST_TRIES = 2

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      networkMode: 'always', // the API may be on this machine
      staleTime: 1000,
      // A view that reads `data` late, behind another condition, would else keep what the query held when it was made.
      notifyOnChangeProps: 'all',
      retry: (tries, error) => error instanceof ApiError && error.passing && !error.offline && tries < MOST_TRIES,
      retryDelay: (tries, error) => Math.max(1000 * 2 ** tries, error instanceof ApiError ? error.retryAfterS * 1000 : 0),
    },
    mutations: { networkMode: 'always', retry: false },
  },
})

connection.onReturn(() => void queryClient.invalidateQueries())

export interface Listed<T> {
  data: T[]
  has_more: boolean
  last_id: string | null
}

interface ListOptions<T> {
  key: QueryKey
  page: (after: string | undefined, signal: AbortSignal) => Promise<Listed<T>>
  /** Milliseconds after which all loaded pages are asked for again; false: never. */
  refetchMs?: number | false
  enabled?: boolean
}

/** A list of the API, newest first. `rows` holds the loaded pages; `more` loads the next one. */
export function createList<T>(options: () => ListOptions<T>) {
  const query = createInfiniteQuery(() => {
    const { key, page, refetchMs = false, enabled = true } = options()
    return {
      queryKey: key,
      queryFn: ({ pageParam, signal }) => page(pageParam, signal),
      initialPageParam: undefined as string | undefined,
      getNextPageParam: (last: Listed<T>) => (last.has_more ? (last.last_id ?? undefined) : undefined),
      refetchInterval: refetchMs,
      enabled,
    }
  })
  const rows = $derived(query.data?.pages.flatMap((page) => page.data) ?? [])
  return {
    get rows() {
      return rows
    },
    get pending() {
      return query.isPending
    },
    /** The error of the first page; null once there are rows. */
    get error() {
      return query.data === undefined ? query.error : null
    },
    get hasMore() {
      return query.hasNextPage
    },
    get loadingMore() {
      return query.isFetchingNextPage
    },
    more: () => void query.fetchNextPage(),
    again: () => void query.refetch(),
  }
}
