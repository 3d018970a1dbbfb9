/** A part of cluster eu fails: nobody's requests do, us goes on with its own changes, and afterwards eu is heard again. */
import { type FaultOrder, fault } from '../../src/lab/fault.ts';
import type { Bed } from './bed.ts';
import { costOf, monotonic } from './client.ts';
import { mark, nothingHappens, stateOf, steady, unmark, until } from './conditions.ts';
import type { Row, Scenario } from './scenario.ts';

export interface Outage {
  begin(bed: Bed): Promise<unknown>;
  /** Default: heals all faults. */
  end?(bed: Bed): Promise<unknown>;
  /** Lasts until us calls eu so; default: for some seconds. */
  readonly until?: string;
  /** It is over as soon as it has begun. */
  readonly passing?: boolean;
  /** False: nothing can be changed in eu while it lasts. */
  readonly changeable?: boolean;
}

export function outage(
  what: string,
  { begin, end, until: state, passing = false, changeable = true }: Outage,
): Scenario {
  const heal = end ?? ((bed: Bed) => fault(bed.lab.plan.name, { kind: 'heal' }));
  return {
    name: what,
    async run(bed) {
      await using near = await steady(bed.eu, 'us', bed.eu.nodeClient());
      await using far = await steady(bed.us, 'eu');
      await using marks = bed.us.client('mark', 20);
      await unmark(bed, marks);
      const answered = (by: string, from: number): Promise<number> =>
        until(`an answer of ${by}`, 180, () => marks.since(from).find(each => each.by === by)?.begin);
      const seconds = (from: number, to: number): string => `${(Math.max(0, to - from) / 1000).toFixed(1)} s`;

      const at = monotonic();
      await using stack = new AsyncDisposableStack();
      stack.defer(async () => {
        await heal(bed);
      });
      await begin(bed);
      const asked = monotonic();
      await mark(bed.us, true);
      const own = seconds(asked, await answered('us-one', asked));
      if (state !== undefined)
        await until(`us calls eu ${state}`, 60, async () => (await stateOf(bed.us, 'eu')) === state);
      else if (!passing) await nothingHappens();
      if (changeable) await mark(bed.eu, true);

      const healed = passing ? at : monotonic();
      await stack.disposeAsync();
      if (!changeable)
        await until('eu takes a change', 120, async () => {
          try {
            return await mark(bed.eu, true);
          } catch {
            return undefined;
          }
        });
      const heard = seconds(healed, await answered('eu-one', at));
      await until('us calls eu ready', 120, async () => (await stateOf(bed.us, 'eu')) === 'ready');
      const ready = seconds(healed, monotonic());
      const row = (client: typeof near, name: string): Row => ({
        what,
        client: name,
        cost: costOf(client, at),
        limit: 0,
        note:
          name === 'eu' ? '' : `change in us: ${own}; after the end change of eu: ${heard}, ready: ${ready}`,
      });
      const rows = [row(near, 'eu'), row(far, 'us')];
      await unmark(bed, marks);
      return rows;
    },
  };
}

/** A process of eu is killed, and then another one of its kind is stopped and goes on. */
export function processOutages(
  what: string,
  target: string,
  paused: Omit<Outage, 'begin' | 'end'> = {},
): Scenario[] {
  const order =
    (kind: 'kill' | 'pause') =>
    (bed: Bed): Promise<unknown> =>
      until(`${target} runs`, 120, async () => {
        try {
          return await fault(bed.lab.plan.name, { kind, target } satisfies FaultOrder);
        } catch {
          return undefined; // it is being started again after the fault before
        }
      });
  const { changeable = true } = paused;
  return [
    outage(`${what} is killed`, { begin: order('kill'), passing: true, changeable }),
    outage(`${what} is paused`, { begin: order('pause'), ...paused }),
  ];
}
