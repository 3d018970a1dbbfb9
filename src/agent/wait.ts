import type { ReadonlyTable } from '../table/table.ts';

/** Resolves when the table has this row. */
export function whenPresent<Row>(table: ReadonlyTable<Row>, key: string, signal: AbortSignal): Promise<Row> {
  const present = table.get(key);
  if (present !== undefined) return Promise.resolve(present);
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      unsubscribe();
      reject(signal.reason);
    };
    const unsubscribe = table.subscribe(({ key: changed, after }) => {
      if (changed !== key || after === undefined) return;
      unsubscribe();
      signal.removeEventListener('abort', stop);
      resolve(after);
    });
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}

export interface WaitOptions {
  readonly signal: AbortSignal;
  /** Milliseconds until it is given up. */
  readonly timeout: number;
  /** Called when it is not true at once, and every 10 s after. */
  readonly waiting: () => void;
  /** What the error says when time is over. */
  readonly failure: () => string;
}

/** Resolves when `condition` holds; for start-up only, where several things of different kinds are waited for. */
export async function whenTrue(condition: () => boolean, options: WaitOptions): Promise<void> {
  const { signal, timeout, waiting, failure } = options;
  const started = performance.now();
  let said = Number.NEGATIVE_INFINITY;
  while (!condition()) {
    signal.throwIfAborted();
    const now = performance.now();
    if (now - started > timeout) throw new Error(failure());
    if (now - said > 10_000) {
      waiting();
      said = now;
    }
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}
