/** Light, dark, or as the system has it. */

export type Theme = 'auto' | 'light' | 'dark'
const NAME = 'meteor.theme'

class ThemeChoice {
  value = $state<Theme>('auto')
  /** Grows with each change of colours, so that drawn charts can follow. */
  version = $state(0)

  start(): void {
    try {
      const kept = localStorage.getItem(NAME)
      if (kept === 'light' || kept === 'dark') this.value = kept
    } catch {
      // storage is forbidden
    }
    this.apply()
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.version++)
  }

  choose(value: Theme): void {
    this.value = value
    try {
      if (value === 'auto') localStorage.removeItem(NAME)
      else localStorage.setItem(NAME, value)
    } catch {
      // it lasts as long as the page
    }
    this.apply()
  }

  private apply(): void {
    if (this.value === 'auto') delete document.documentElement.dataset['theme']
    else document.documentElement.dataset['theme'] = this.value
    this.version++
  }
}

export const theme = new ThemeChoice()
