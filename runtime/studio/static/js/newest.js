// One request at a time; of those that come meanwhile only the newest waits.

export class Newest {
  /** work(value): a promise; onBusy(boolean); onError(error). */
  constructor(work, onBusy, onError) {
    Object.assign(this, { work, onBusy, onError, busy: false, waiting: null });
  }

  async ask(value) {
    this.waiting = { value };
    if (this.busy) return;
    this.busy = true;
    this.onBusy(true);
    while (this.waiting) {
      const { value: next } = this.waiting;
      this.waiting = null;
      try {
        await this.work(next);
      } catch (error) {
        this.onError(error);
      }
    }
    this.busy = false;
    this.onBusy(false);
  }
}
