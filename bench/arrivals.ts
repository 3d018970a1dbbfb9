import { setTimeout as pause } from 'node:timers/promises';

/** When things were first seen somewhere, for who waits for them. */
export class Arrivals {
  readonly #where: string;
  readonly #seconds: number;
  readonly #seen = new Map<string, number>();
  readonly #waiting = new Map<string, (stamp: number) => void>();

  /** @param seconds that anything may take. Default 60 */
  constructor(where: string, seconds = 60) {
    this.#where = where;
    this.#seconds = seconds;
  }

  note(what: string, stamp: number): void {
    if (this.#seen.has(what)) return;
    this.#seen.set(what, stamp);
    this.#waiting.get(what)?.(stamp);
    this.#waiting.delete(what);
  }

  /** Its stamp, once it is there. @throws Error when it does not come in time */
  async of(what: string): Promise<number> {
    const known = this.#seen.get(what);
    if (known !== undefined) return known;
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#waiting.set(what, resolve);
    const late = new AbortController();
    const timeout = pause(this.#seconds * 1000, undefined, { signal: late.signal }).then(() => {
      throw new Error(`${this.#where}: no ${what} after ${this.#seconds} s`);
    });
    timeout.catch(() => undefined);
    try {
      return await Promise.race([promise, timeout]);
    } finally {
      late.abort();
    }
  }
}
