/**
 * The daemons of eu have a wrong clock: an hour ahead, and then, at one blow, an hour behind. By libfaketime (the
 * package of Debian of that name), whose folder each node of a lab has in its /usr.
 */
import { existsSync } from 'node:fs';
import type { Bed } from './bed.ts';
import { costOf, monotonic } from './client.ts';
import { mark, nothingHappens, stateOf, steady, unmark, until } from './conditions.ts';
import type { Row, Scenario } from './scenario.ts';

const library = '/usr/lib/x86_64-linux-gnu/faketime';
const folder = '/var/lib/isthmus-chaos';
const workloads = ['daemonset/isthmus', 'deployment/isthmus-operator', 'deployment/clustermesh-apiserver'];
const containers = ['agent', 'operator', 'apiserver'];

const of = ['-n', 'kube-system'];
/** Written by the operator's own clock every few seconds. */
const renewed = 'jsonpath={.spec.renewTime}';

/** Writes the shift that the library looks for once a second; '+0' is none. */
async function shift({ eu }: Bed, by: string): Promise<void> {
  for (const { name } of eu.cluster.plan.nodes)
    await eu.cluster.exec(name, 'sh', '-c', `mkdir -p ${folder} && echo '${by}' >${folder}/shift`);
}

const rolledOut = async ({ eu }: Bed): Promise<void> => {
  for (const workload of workloads) await eu.kubectl(...of, 'rollout', 'status', workload, '--timeout=240s');
};

export const clockSkew: Scenario = {
  name: 'clock skew',
  async run(bed) {
    if (!existsSync(library)) throw new Error(`found no ${library}: apt install libfaketime`);
    const { eu, us } = bed;
    await shift(bed, '+0');
    for (const [at, workload] of workloads.entries())
      await eu.kubectl(...of, 'patch', workload, '--patch', patchOf(containers[at]!));
    try {
      await rolledOut(bed);
      await using near = await steady(eu, 'us');
      await using far = await steady(us, 'eu');
      await using marks = us.client('mark', 20);
      const rows: Row[] = [];
      for (const by of ['+3600', '-3600', '+0']) {
        const what = `clocks of eu's daemons: ${by} s`;
        const at = monotonic();
        await shift(bed, by);
        await until('the operator has that clock', 60, async () => {
          const written = await eu.kubectl(...of, 'get', 'lease', 'isthmus-operator', '-o', renewed);
          return Math.abs(Date.parse(written) - Date.now() - Number(by) * 1000) < 30_000;
        });
        await nothingHappens();
        await mark(eu, true);
        const marked = monotonic();
        const heard = await until('a change of eu in us', 60, () =>
          marks.since(marked).find(each => each.by === 'eu-one'),
        );
        const note = `change of eu in us after ${((heard.begin - marked) / 1000).toFixed(1)} s, ${await stateOf(us, 'eu')}`;
        const row = (client: typeof near, name: string): Row => ({
          what,
          client: name,
          cost: costOf(client, at),
          limit: 0,
          note: name === 'us' ? note : '',
        });
        rows.push(row(near, 'eu'), row(far, 'us'));
        await unmark(bed, marks);
      }
      return rows;
    } finally {
      await shift(bed, '+0');
      for (const workload of workloads) await eu.kubectl(...of, 'rollout', 'undo', workload);
      await rolledOut(bed);
    }
  },
};

function patchOf(container: string): string {
  return JSON.stringify({
    spec: {
      template: {
        spec: {
          volumes: [
            { name: 'faketime', hostPath: { path: library } },
            { name: 'shift', hostPath: { path: folder } },
          ],
          containers: [
            {
              name: container,
              env: [
                { name: 'LD_PRELOAD', value: '/faketime/libfaketimeMT.so.1' },
                { name: 'FAKETIME_TIMESTAMP_FILE', value: '/shift/shift' },
                { name: 'FAKETIME_CACHE_DURATION', value: '1' },
                // No clock that anybody sets is monotonic.
                { name: 'FAKETIME_DONT_FAKE_MONOTONIC', value: '1' },
              ],
              volumeMounts: [
                { name: 'faketime', mountPath: '/faketime', readOnly: true },
                { name: 'shift', mountPath: '/shift', readOnly: true },
              ],
            },
          ],
        },
      },
    },
  });
}
