import type { BpfMap } from './map.ts';

export interface Expired {
  /** Rows that stay. */
  readonly rows: number;
  readonly expired: number;
  /** Milliseconds of work; pauses do not count. */
  readonly work: number;
}

export interface ExpiryOptions {
  /** CLOCK_MONOTONIC in seconds, as the programs read it. */
  readonly now: number;
  /** Seconds that a row outlives its time: a packet on its way may be about to prolong it. */
  readonly grace: number;
  /** Milliseconds of work before the event loop gets a turn. */
  readonly slice: number;
  readonly signal?: AbortSignal;
}

const BATCH = 1024;

/** CLOCK_MONOTONIC in whole seconds. */
export const monotonicSeconds = (): number => Number(process.hrtime.bigint() / 1_000_000_000n);

/**
 * Deletes the rows of a map whose field `expires` (32 bits, seconds) is over, in one walk. Rows are read and deleted
 * by batches, and only that field is decoded: about 0.2 µs a row that stays.
 */
export async function deleteExpired(map: BpfMap<unknown, unknown>, options: ExpiryOptions): Promise<Expired> {
  const { now, grace, slice, signal } = options;
  const { key, value } = map.spec;
  const field = value.kind === 'struct' ? value.fields.find(each => each.name === 'expires') : undefined;
  if (!field) throw new Error(`map ${map.name}: its rows do not expire`);
  let [rows, expired, work] = [0, 0, 0];
  let began = performance.now();
  for (const batch of map.batches(BATCH)) {
    const view = new DataView(batch.values.buffer, batch.values.byteOffset, batch.values.byteLength);
    const over = new Uint8Array(batch.count * key.size);
    let count = 0;
    for (let at = 0; at < batch.count; at++) {
      // The clock's 32 bits come round: the difference counts, not the numbers.
      if (((view.getUint32(at * value.size + field.offset, true) + grace - now) | 0) > 0) continue;
      over.set(batch.keys.subarray(at * key.size, (at + 1) * key.size), count++ * key.size);
    }
    map.deleteBatch(over, count);
    rows += batch.count - count;
    expired += count;
    if (performance.now() - began < slice) continue;
    work += performance.now() - began;
    await new Promise(resolve => setImmediate(resolve));
    signal?.throwIfAborted();
    began = performance.now();
  }
  return { rows, expired, work: work + performance.now() - began };
}
