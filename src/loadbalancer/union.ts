import type { Backend } from './backend.ts';

/**
 * The backends of many EndpointSlices together, as long as no backend is in two of them. A change of one slice costs
 * what that slice has, and a copy of the list: what is in the others was looked at before.
 */
export class Union {
  /** How many parts a backend is in, by its key. */
  readonly #counts = new Map<string, number>();
  readonly #parts = new Set<readonly Backend[]>();
  /** Backends that are in more than one. */
  #shared = 0;

  /** All of the parts, one after the other; undefined where one backend is in two. Each part is a list that never changes. */
  of(parts: readonly (readonly Backend[])[]): readonly Backend[] | undefined {
    const gone = new Set(this.#parts);
    for (const part of parts) {
      if (gone.delete(part) || this.#parts.has(part)) continue;
      this.#parts.add(part);
      for (const { key } of part) this.#count(key, 1);
    }
    for (const part of gone) {
      this.#parts.delete(part);
      for (const { key } of part) this.#count(key, -1);
    }
    return this.#shared === 0 ? ([] as Backend[]).concat(...parts) : undefined;
  }

  #count(key: string, by: 1 | -1): void {
    const before = this.#counts.get(key) ?? 0;
    const after = before + by;
    if (after === 0) this.#counts.delete(key);
    else this.#counts.set(key, after);
    this.#shared += Number(after > 1) - Number(before > 1);
  }
}
