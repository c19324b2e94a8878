/** Paths below /ui, and filters in the query. Links are plain <a href>; a click on one that stays here loads no page. */

export const BASE = '/ui'

/** The path below /ui, "/" for the start page. */
function pathOf(location: Location): string {
  const below = location.pathname.startsWith(BASE) ? location.pathname.slice(BASE.length) : location.pathname
  return below.replace(/\/+$/, '') || '/'
}

class Router {
  path = $state('/')
  query = $state.raw(new URLSearchParams())

  /** Returns what ends it. */
  start(): () => void {
    const onClick = (click: MouseEvent) => this.onClick(click)
    const read = () => this.read()
    document.addEventListener('click', onClick)
    addEventListener('popstate', read)
    read()
    return () => {
      document.removeEventListener('click', onClick)
      removeEventListener('popstate', read)
    }
  }

  /** path: below /ui, as "/jobs/new". */
  go(path: string, replace = false): void {
    history[replace ? 'replaceState' : 'pushState'](null, '', href(path))
    this.read()
    scrollTo(0, 0)
  }

  /** Sets filters in the address; an empty value takes one away. */
  filter(changes: Record<string, string | null | undefined>): void {
    const query = new URLSearchParams(this.query)
    for (const [name, value] of Object.entries(changes)) {
      if (value) query.set(name, value)
      else query.delete(name)
    }
    const text = query.toString()
    history.replaceState(null, '', location.pathname + (text ? `?${text}` : ''))
    this.read()
  }

  private read(): void {
    this.path = pathOf(location)
    this.query = new URLSearchParams(location.search)
  }

  private onClick(click: MouseEvent): void {
    if (click.defaultPrevented || click.button || click.metaKey || click.ctrlKey || click.shiftKey || click.altKey) return
    const link = click.target instanceof Element ? click.target.closest('a') : null
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return
    if (link.pathname !== BASE && !link.pathname.startsWith(`${BASE}/`)) return
    if (link.hash && link.pathname === location.pathname) return
    click.preventDefault()
    this.go(link.pathname.slice(BASE.length) + link.search)
  }
}

export const router = new Router()

/** The address of a path below /ui. Parts that are data go through encodeURIComponent first. */
export function href(path: string): string {
  return BASE + (path === '/' ? '/' : path)
}

/** The parameters of a pattern such as "/jobs/:id" in a path; "*name" takes all that is left. null: it does not fit. */
export function match(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split('/').filter(Boolean)
  const given = path.split('/').filter(Boolean)
  const params: Record<string, string> = {}
  for (const [place, part] of wanted.entries()) {
    if (part.startsWith('*')) {
      if (place >= given.length) return null
      params[part.slice(1)] = given.slice(place).map(decoded).join('/')
      return params
    }
    const value = given[place]
    if (value === undefined) return null
    if (part.startsWith(':')) params[part.slice(1)] = decoded(value)
    else if (part !== value) return null
  }
  return wanted.length === given.length ? params : null
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
