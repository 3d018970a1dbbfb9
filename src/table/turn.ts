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

/** Resolves in a later turn, after others have had theirs. */
export const nextTurn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));
