import { setTimeout as pause } from 'node:timers/promises';
import { deleteExpired, monotonicSeconds } from '../datapath/expiry.ts';
import type { BpfMap } from '../datapath/map.ts';

export interface FlowCollectorOptions {
  readonly maps: readonly BpfMap<unknown, unknown>[];
  readonly signal: AbortSignal;
  readonly onError: (map: string, error: Error) => void;
  /** Milliseconds between walks of one map: the least and the most. */
  readonly interval?: { readonly min: number; readonly max: number };
}

/** What the last walk of a map found, and all walks together. */
export interface Collected {
  /** Rows after the last walk. */
  readonly rows: number;
  readonly maxEntries: number;
  readonly walks: number;
  readonly expired: number;
  /** Milliseconds of work. */
  readonly work: number;
  /** Milliseconds until the next walk. */
  readonly next: number;
}

/** Seconds a row is kept after its time. */
const GRACE = 5;
/** Milliseconds of work before others get a turn. */
const SLICE = 4;

/**
 * Removes what has expired from the maps that packets write. A full LRU map forgets by itself what was unused
 * longest; this keeps it from becoming full of the dead, and tells how many live. A hash has no order by time, so a walk
 * costs by what is in the map: it is made as often as it is worth it. Where a quarter had expired the next comes
 * sooner, where next to nothing had, later, so that work follows what expires.
 */
export class FlowCollector {
  readonly #options: FlowCollectorOptions;
  readonly #collected = new Map<string, Collected>();

  constructor(options: FlowCollectorOptions) {
    this.#options = options;
    for (const map of options.maps) void this.#keep(map);
  }

  /** By map name; nothing before the first walk. */
  get collected(): ReadonlyMap<string, Collected> {
    return this.#collected;
  }

  async #keep(map: BpfMap<unknown, unknown>): Promise<void> {
    const { signal, onError, interval: { min, max } = { min: 10_000, max: 600_000 } } = this.#options;
    let next = min;
    while (!signal.aborted) {
      try {
        await pause(next, undefined, { signal, ref: false });
        const { rows, expired, work } = await deleteExpired(map, {
          now: monotonicSeconds(),
          grace: GRACE,
          slice: SLICE,
          signal,
        });
        next = nextInterval({ rows, expired, maxEntries: map.maxEntries, last: next, min, max });
        const before = this.#collected.get(map.name);
        this.#collected.set(map.name, {
          rows,
          maxEntries: map.maxEntries,
          walks: (before?.walks ?? 0) + 1,
          expired: (before?.expired ?? 0) + expired,
          work: (before?.work ?? 0) + work,
          next,
        });
      } catch (error) {
        if (signal.aborted) return;
        onError(map.name, error instanceof Error ? error : new Error(String(error)));
      }
    }
  }
}

/** Milliseconds until the next walk. Pure. */
export function nextInterval(walk: {
  readonly rows: number;
  readonly expired: number;
  readonly maxEntries: number;
  readonly last: number;
  readonly min: number;
  readonly max: number;
}): number {
  const { rows, expired, maxEntries, last, min, max } = walk;
  const total = rows + expired;
  // Near its end a map evicts what is alive: the dead must not take its place.
  if (total > maxEntries * 0.8) return min;
  const share = total === 0 ? 0 : expired / total;
  const next = share > 0.25 ? last * (1 - share) : share < 0.05 ? last * 2 : last;
  return Math.min(max, Math.max(min, next));
}
