import type { BackendPart } from './backend-list.ts';

/**
 * Remembers what is in each of many parts, to know whether two of them have a backend in common. A change of one part
 * costs what that part has: what is in the others was looked at before.
 */
export class Union {
  /** How many parts a backend is in, by its key. */
  readonly #counts = new Map<string, number>();
  readonly #parts = new Set<BackendPart>();
  /** Backends that are in more than one. */
  #shared = 0;

  /** Whether each backend of these parts, and no others, is in one of them only. */
  isDisjoint(parts: readonly BackendPart[]): boolean {
    const gone = new Set(this.#parts);
    for (const part of parts) {
      if (gone.delete(part) || this.#parts.has(part)) continue;
      this.#parts.add(part);
      for (const { key } of part.backends) this.#count(key, 1);
    }
    for (const part of gone) {
      this.#parts.delete(part);
      for (const { key } of part.backends) this.#count(key, -1);
    }
    return this.#shared === 0;
  }

  #count(key: string, by: 1 | -1): void {
    const before = this.#counts.get(key) ?? 0;
    const after = before + by;
    if (after === 0) this.#counts.delete(key);
    else this.#counts.set(key, after);
    this.#shared += Number(after > 1) - Number(before > 1);
  }
}
