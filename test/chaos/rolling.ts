/** Pods of eu come and go under load: nobody's requests fail, at home or in us, and nobody meets an unknown sender. */
import * as z from 'zod';
import { fault } from '../../src/lab/fault.ts';
import { type Bed, rollingDeployment, type Side } from './bed.ts';
import { type Client, costOf, monotonic } from './client.ts';
import { stateOf, until } from './conditions.ts';
import type { Row, Scenario } from './scenario.ts';

/** Requests per second of each client. */
const LOAD = 500;
const REPLICAS = 3;
/** Seconds in which an update may not be heard of: what was killed is started again, and read again. */
const INTERRUPTED = 10;

const counted = z.array(z.looseObject({ reason: z.string(), packets: z.number() }));

/** Packets that came out of the tunnel, on any node, from an address of a pod range that nobody was known to have. */
async function unknownSenders({ us, eu }: Bed): Promise<number> {
  const said = await Promise.all([us, eu].map(side => side.agents('bpf', 'metrics', 'list', '-o', 'json')));
  const rows = said.flat().flatMap(text => counted.parse(JSON.parse(text)));
  return rows
    .filter(({ reason }) => reason === 'sender not known yet')
    .reduce((sum, { packets }) => sum + packets, 0);
}

/** Resolves when the Deployment's pods are these many, and all of another one's are gone. */
async function whenPods(eu: Side, count: number, without: readonly string[]): Promise<string[]> {
  const of = ['-n', 'chaos'];
  return until(`${count} pods of rolling`, 240, async () => {
    const names = await eu.kubectl(...of, 'get', 'pods', '-l', 'app=rolling', '-o', 'name');
    const pods = names.split('\n').filter(name => name !== '');
    if (pods.length !== count || pods.some(pod => without.includes(pod))) return undefined;
    await eu.kubectl(...of, 'rollout', 'status', 'deployment/rolling', '--timeout=180s');
    return pods;
  });
}

/** A client that all pods have answered, and none failed, for a second. */
async function loaded(side: Side, backends: number): Promise<Client> {
  const client = side.client('rolling', LOAD);
  await until('every pod answers', 120, () => {
    const recent = client.since(monotonic() - 1500);
    return (
      recent.length > LOAD / 2 &&
      recent.every(each => each.outcome === 'ok') &&
      new Set(recent.map(each => each.by)).size >= backends
    );
  });
  return client;
}

/** Pods are replaced; with `breaks` once as something breaks, and again when the other cluster is heard as before. */
function update(
  what: string,
  during: Pick<Row, 'limit' | 'strict'>,
  breaks?: (bed: Bed) => Promise<unknown>,
): Scenario {
  return {
    name: what,
    async run(bed) {
      const { us, eu } = bed;
      const of = ['-n', 'chaos', 'get', 'pod', 'us-two', '-o', 'jsonpath={.status.podIP}'];
      await eu.apply(rollingDeployment(REPLICAS, `${await us.kubectl(...of)}:8080`));
      let pods = await whenPods(eu, REPLICAS, []);
      let counted = await unknownSenders(bed);
      /** Packets of pods that nobody knew, since the count before. */
      const replaced = async (): Promise<number> => {
        await eu.kubectl('-n', 'chaos', 'rollout', 'restart', 'deployment/rolling');
        pods = await whenPods(eu, REPLICAS, pods);
        await until('us calls eu ready', 120, async () => (await stateOf(us, 'eu')) === 'ready');
        const before = counted;
        counted = await unknownSenders(bed);
        return counted - before;
      };
      await using near = await loaded(eu, REPLICAS);
      await using far = await loaded(us, REPLICAS);
      const at = monotonic();
      let meanwhile = '';
      if (breaks) {
        await breaks(bed);
        meanwhile = `, ${await replaced()} as it broke`;
      }
      const unknown = await replaced();
      const row = (client: Client, name: string): Row => ({
        ...{ what, client: name, cost: costOf(client, at), ...during },
        note: name === 'us' ? `packets of unknown senders: ${unknown}${meanwhile}` : '',
      });
      return [row(near, 'eu'), { ...row(far, 'us'), unknown }];
    },
  };
}

const kill =
  (...targets: readonly string[]) =>
  async ({ lab }: Bed): Promise<void> => {
    for (const target of targets) await fault(lab.plan.name, { kind: 'kill', target });
  };

export const rollingUpdate = update('a rolling update', { limit: 0, strict: true });

/** What tells other clusters of new pods, or hears of them, dies as they come. Started again, it knows them in time as before. */
export const interruptedUpdates: readonly Scenario[] = [
  update('a rolling update as the mesh etcd is killed', { limit: INTERRUPTED }, kill('eu:mesh-etcd')),
  update('a rolling update as the exporter is killed', { limit: INTERRUPTED }, kill('eu:mesh-apiserver')),
  update(
    'a rolling update as the agents of the other cluster are killed',
    { limit: INTERRUPTED },
    kill('us/us-control-plane:agent', 'us/us-worker:agent', 'us/us-worker2:agent'),
  ),
];

export const interruptedByMirror: Scenario = update(
  'a rolling update as the mirror is killed',
  { limit: INTERRUPTED },
  kill('us:mesh-mirror'),
);

export const scaleToZero: Scenario = {
  name: 'scaled to zero in one of two clusters',
  async run(bed) {
    const { us, eu } = bed;
    await Promise.all([us.apply(rollingDeployment(1)), eu.apply(rollingDeployment(2))]);
    const [[own = '']] = await Promise.all([whenPods(us, 1, []), whenPods(eu, 2, [])]);
    await using client = await loaded(us, 3);
    const at = monotonic();
    await eu.kubectl('-n', 'chaos', 'scale', 'deployment/rolling', '--replicas=0');
    await until('its pods are gone', 120, async () => {
      const left = await eu.kubectl('-n', 'chaos', 'get', 'pods', '-l', 'app=rolling', '-o', 'name');
      return left.trim() === '';
    });
    const last = client.since(at).findLast(({ by }) => by !== '-' && !own.endsWith(by));
    const note = `eu takes new connections until ${last ? ((last.begin - at) / 1000).toFixed(2) : 0} s after the command`;
    await us.kubectl('-n', 'chaos', 'delete', 'deployment/rolling', '--wait=false');
    return [rowOf('scaled to zero in one of two clusters', client, 'us', at, note)];
  },
};

function rowOf(what: string, client: Client, name: string, at: number, note: string): Row {
  return { what, client: name, cost: costOf(client, at), limit: 0, strict: true, note };
}
