/**
 * The event loop as something that long work takes in turns. All work of one turn shares one deadline, so that a
 * source, the derivations behind it and a reconciler do not add up to one long task: each does at least one piece
 * of its work when it is called, goes on until the turn is over, and then waits for the next.
 */

/** Milliseconds of a turn. A turn of work that packets of the API server began may be followed by one of the rest. */
const LENGTH = 8;

let end: number | undefined;

/** Whether whoever has done a piece of work should let others go on. The first question in a turn begins it. */
export function turnIsOver(): boolean {
  const now = performance.now();
  if (end === undefined) {
    end = now + LENGTH;
    // Queued before whatever asks goes on later: in the next round of the loop a new turn begins first.
    setImmediate(() => {
      end = undefined;
    });
  }
  return now >= end;
}

/** Rows that derivations have yet to compute, all together. */
let waiting = 0;
/** As many may wait: enough that nobody is idle, and few enough that they are no memory to speak of. */
const MOST = 1024;

/** So many more (or fewer) rows are to be computed. */
export function addBacklog(rows: number): void {
  waiting += rows;
}

/** Sources that wait, those first that have waited longest. */
const sources: (() => void)[] = [];

/**
 * Undefined where a source may tell something now; else what resolves when it may: its turn is over, or what sources
 * have told before is not computed yet. What waits at its source costs nothing; in the middle of the way it is memory.
 * In each round of the event loop one source at the least goes on, and wakes no other.
 */
export function sourceTurn(): Promise<void> | undefined {
  if (!turnIsOver() && waiting <= MOST) return undefined;
  return new Promise(resolve => {
    if (sources.push(resolve) === 1) setImmediate(wakeSource);
  });
}

function wakeSource(): void {
  if (waiting <= MOST) sources.shift()!();
  if (sources.length) setImmediate(wakeSource);
}

/** Resolves in a later turn, after others have had theirs. */
export const nextTurn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));
