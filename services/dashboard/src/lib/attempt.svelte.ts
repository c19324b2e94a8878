/** What a person asks for and the API may refuse: whether it runs, and why it failed. */
export class Attempt {
  /** What runs now; empty while nothing does. */
  doing = $state('')
  error = $state.raw<unknown>(null)

  get busy(): boolean {
    return this.doing !== ''
  }

  /** Runs the act. It never throws: a failure is kept in `error` until the next act begins. */
  async run(act: () => unknown, doing = 'busy'): Promise<void> {
    this.doing = doing
    this.error = null
    try {
      await act()
    } catch (failed) {
      this.error = failed
    } finally {
      this.doing = ''
    }
  }
}
