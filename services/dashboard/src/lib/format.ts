/** Numbers and times as people read them. */

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const dollars = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 4 })
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

export const count = (value: number): string => whole.format(value)
/** 12,345,678 as "12.3M". */
export const short = (value: number): string => (Math.abs(value) < 10_000 ? whole.format(value) : compact.format(value))
export const usd = (value: number): string => `$${dollars.format(value)}`
export const percent = (share: number, digits = 0): string => `${(100 * share).toFixed(digits)} %`
export const decimal = (value: number, digits = 3): string => value.toFixed(digits)

/** A difference with its sign: "+0.100". A minus is the real one. */
export function signed(value: number, digits = 3): string {
  const text = Math.abs(value).toFixed(digits)
  return Number(text) === 0 ? text : `${value < 0 ? '−' : '+'}${text}`
}

export function bytes(size: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let place = 0
  while (size >= 1000 && place < units.length - 1) {
    size /= 1000
    place++
  }
  return `${place && size < 10 ? size.toFixed(1) : whole.format(size)} ${units[place]}`
}

export function duration(seconds: number): string {
  if (seconds < 60) return 'less than a minute'
  const minutes = Math.round(seconds / 60)
  if (minutes < 90) return minutes === 1 ? 'a minute' : `${minutes} minutes`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`
  return `${Math.round(hours / 24)} days`
}

/** "10 to 17 minutes". */
export function between(low: number, high: number): string {
  const [from, to] = [duration(low), duration(high)]
  const [value, ...unit] = from.split(' ')
  if (from === to) return to
  return /^\d+$/.test(value ?? '') && unit.length === 1 && to.endsWith(` ${unit[0]}`) && !to.includes(' h ') ? `${value} to ${to}` : `${from} to ${to}`
}

/** Seconds since 1970 as the user's date and time. */
export function dateTime(seconds: number): string {
  return new Date(seconds * 1000).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' })
}

export function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString('en-GB')
}

/** The time, with the day where it is not that of `now`, which is in seconds too. */
export function clockOfDay(seconds: number, now = Date.now() / 1000): string {
  const [day, today] = [seconds, now].map((at) => new Date(at * 1000).toLocaleDateString('en-GB', { day: 'numeric', month: 'short' }))
  return day === today ? clock(seconds) : `${day} ${clock(seconds)}`
}

/** "5 minutes ago". now: in seconds. */
export function ago(seconds: number, now = Date.now() / 1000): string {
  const passed = now - seconds
  return passed < 60 ? 'just now' : `${duration(passed)} ago`
}

/** A long text as a look at it: the rest is left out. */
export const cut = (text: string, most = 600): string => (text.length > most ? `${text.slice(0, most)} …` : text)

export function plural(number: number, one: string, many = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : many}`
}

/** "validating_files" as "validating files". */
export const words = (name: string): string => name.replaceAll('_', ' ')
