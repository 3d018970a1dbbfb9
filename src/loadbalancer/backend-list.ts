import type { Backend, BackendState } from './backend.ts';

/** Backends in their order, each once, that never change: what one EndpointSlice has, or one other cluster. */
export class BackendPart {
  readonly backends: readonly Backend[];
  readonly length: number;
  readonly #counts: Record<BackendState, number> = { active: 0, terminating: 0, unhealthy: 0 };
  #subsets: Map<BackendState, BackendPart> | undefined;

  constructor(backends: readonly Backend[]) {
    this.backends = backends;
    this.length = backends.length;
    for (const { state } of backends) this.#counts[state]++;
  }

  count(state: BackendState): number {
    return this.#counts[state];
  }

  /** Those in a state: each time the same part, so that lists with it stay alike. */
  only(state: BackendState): BackendPart {
    if (this.#counts[state] === this.length) return this;
    this.#subsets ??= new Map();
    let found = this.#subsets.get(state);
    if (!found) {
      found = new BackendPart(this.backends.filter(each => each.state === state));
      this.#subsets.set(state, found);
    }
    return found;
  }

  filter(wanted: (backend: Backend) => boolean): BackendPart {
    return this.backends.every(wanted) ? this : new BackendPart(this.backends.filter(wanted));
  }
}

/**
 * Backends in their order, each once, as parts one after the other. Lists that have most parts in common are made and
 * compared at the cost of the others: a service may have ten thousand backends, of which one changes.
 */
export class BackendList implements Iterable<Backend> {
  readonly parts: readonly BackendPart[];
  readonly length: number;

  /** The parts have no backend in common. */
  constructor(parts: readonly BackendPart[]) {
    this.parts = parts.every(hasAny) ? parts : parts.filter(hasAny);
    this.length = this.parts.reduce((sum, part) => sum + part.length, 0);
  }

  static of(backends: readonly Backend[]): BackendList {
    return new BackendList([new BackendPart(backends)]);
  }

  has(state: BackendState): boolean {
    return this.parts.some(part => part.count(state) > 0);
  }

  only(state: BackendState): BackendList {
    if (this.parts.every(part => part.count(state) === part.length)) return this;
    return new BackendList(this.parts.map(part => part.only(state)));
  }

  filter(wanted: (backend: Backend) => boolean): BackendList {
    return new BackendList(this.parts.map(part => part.filter(wanted)));
  }

  /** Those of another list, which has none of these, after these. */
  concat(other: BackendList): BackendList {
    if (other.length === 0) return this;
    return this.length === 0 ? other : new BackendList([...this.parts, ...other.parts]);
  }

  map<T>(of: (backend: Backend, at: number) => T): T[] {
    let at = 0;
    return Array.from(this, backend => of(backend, at++));
  }

  *[Symbol.iterator](): Generator<Backend> {
    for (const { backends } of this.parts) yield* backends;
  }

  /** Whether both have the same backends in the same order, and in the same states. */
  equals(other: BackendList): boolean {
    if (this.length !== other.length) return false;
    let [part, at, otherPart, otherAt] = [0, 0, 0, 0];
    for (let left = this.length; left > 0; ) {
      const [own, its] = [this.parts[part]!, other.parts[otherPart]!];
      if (own === its && at === 0 && otherAt === 0) {
        part++;
        otherPart++;
        left -= own.length;
        continue;
      }
      if (!sameBackend(own.backends[at]!, its.backends[otherAt]!)) return false;
      left--;
      if (++at === own.length) [part, at] = [part + 1, 0];
      if (++otherAt === its.length) [otherPart, otherAt] = [otherPart + 1, 0];
    }
    return true;
  }

  /** Who, by key, is only in `before`, and who only in this list. */
  since(before: BackendList): { readonly removed: readonly Backend[]; readonly added: readonly Backend[] } {
    const [old, now] = [new Set(before.parts), new Set(this.parts)];
    const was = before.parts.flatMap(part => (now.has(part) ? [] : part.backends));
    const is = this.parts.flatMap(part => (old.has(part) ? [] : part.backends));
    // A part that is new in whole is mostly as the one it replaces: what both begin and end with is passed over.
    const shorter = Math.min(was.length, is.length);
    let start = 0;
    while (start < shorter && was[start]!.key === is[start]!.key) start++;
    let end = 0;
    while (end < shorter - start && was.at(-1 - end)!.key === is.at(-1 - end)!.key) end++;
    const [gone, come] = [was, is].map(list => list.slice(start, list.length - end)) as [
      Backend[],
      Backend[],
    ];
    const [goneKeys, comeKeys] = [gone, come].map(list => new Set(list.map(each => each.key)));
    return {
      removed: gone.filter(each => !comeKeys!.has(each.key)),
      added: come.filter(each => !goneKeys!.has(each.key)),
    };
  }
}

const hasAny = (part: BackendPart): boolean => part.length > 0;

const sameBackend = (a: Backend, b: Backend): boolean =>
  a === b || (a.key === b.key && a.state === b.state && a.cluster === b.cluster && a.node === b.node);
