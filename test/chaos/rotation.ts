/** Both clusters get new CAs, with all certificates, while requests flow. */
import { ownCommand } from '../../src/lab/own-command.ts';
import { run } from '../../src/lab/process.ts';
import type { Bed, Side } from './bed.ts';
import { costOf, monotonic } from './client.ts';
import { stateOf, steady, until } from './conditions.ts';
import type { Row, Scenario } from './scenario.ts';

/** As docs/mesh.md says. */
async function rotate({ lab }: Bed, side: Side, other: Side): Promise<void> {
  const [of, with_] = [side, other].map(each => lab.cluster(each.cluster.name).context);
  const [file, ...args] = ownCommand(
    ...['clustermesh', 'rotate-ca', '--context', of!, '--destination-context', with_!],
  );
  await run(file, args);
}

const authorityOf = ({ kubectl }: Side): Promise<string> =>
  kubectl('-n', 'kube-system', 'get', 'secret', 'isthmus-ca', '-o', 'jsonpath={.data.ca\\.crt}');

const isReady = async ({ us, eu }: Bed): Promise<boolean> =>
  (await stateOf(us, 'eu')) === 'ready' && (await stateOf(eu, 'us')) === 'ready';

export const rotation: Scenario = {
  name: 'CA rotation',
  async run(bed) {
    const { us, eu } = bed;
    await using near = await steady(eu, 'us');
    await using far = await steady(us, 'eu');
    const before = await Promise.all([us, eu].map(authorityOf));
    const at = monotonic();
    let over = false;
    let longest = 0;
    const watched = (async () => {
      for (let readyAt = monotonic(); !over; ) {
        if (await isReady(bed)) readyAt = monotonic();
        else longest = Math.max(longest, monotonic() - readyAt);
      }
    })();
    try {
      await rotate(bed, eu, us);
      await rotate(bed, us, eu);
    } finally {
      over = true;
      await watched;
    }
    const took = monotonic() - at;
    await until('each calls the other ready', 60, () => isReady(bed));
    const after = await Promise.all([us, eu].map(authorityOf));
    if (after.some((each, i) => each === before[i])) throw new Error('a CA is the one of before');
    const note = `took ${(took / 1000).toFixed(0)} s; not ready for at most ${(longest / 1000).toFixed(1)} s`;
    const row = (client: typeof near, name: string): Row => ({
      what: 'new CAs and certificates in both clusters',
      client: name,
      cost: costOf(client, at),
      limit: 0,
      note: name === 'us' ? note : '',
    });
    return [row(near, 'eu'), row(far, 'us')];
  },
};
