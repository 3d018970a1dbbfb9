import type { ReconcilerStatus } from '../table/reconciler.ts';

/**
 * Resolves when none of the reconcilers has anything left to write: what is known now is in place. Unlike
 * `whenSettled` it does not wait for tables that are not complete yet. Throws when the signal aborts.
 */
export async function whenQuiet(
  reconcilers: Iterable<{ readonly status: ReconcilerStatus }>,
  signal: AbortSignal,
): Promise<void> {
  const all = [...reconcilers];
  for (let calm = 0; calm < 2; ) {
    signal.throwIfAborted();
    // A turn of the event loop lets derivations and batches run that are due.
    await new Promise(resolve => setImmediate(resolve));
    calm = all.every(each => each.status.quiet) ? calm + 1 : 0;
  }
}
