/** What is broken, and what must hold while it is: each number here is a promise of docs/failover.md. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fault } from '../../src/lab/fault.ts';
import { type Bed, moveApiserver } from './bed.ts';
import { type Client, costOf, monotonic } from './client.ts';
import { clockSkew } from './clock.ts';
import { answersOf, isBlind, isWithout, nothingHappens, stateOf, steady, until } from './conditions.ts';
import { noMemory, noMemoryFor, noSpace } from './exhaustion.ts';
import { processOutages } from './outage.ts';
import { interruptedByMirror, interruptedUpdates, rollingUpdate, scaleToZero } from './rolling.ts';
import { rotation } from './rotation.ts';
import type { Row, Scenario } from './scenario.ts';

/** Seconds in which a pod that Kubernetes has taken off must be out of service. */
const POD = 1;
/** Seconds in which a dead node or cluster must be out of service. */
const PROMISE = 3;
/** The same where the other cluster has to find another way to the control plane first. */
const DETOUR = 4;
/** The same where the other cluster has to be told first that nobody there sees the node die. */
const BLIND = 6;
/** Kubernetes' own judgement of a node: its grace of 40 s, and its controller's rounds. */
const KUBERNETES = 60;

const cutNode =
  (way: 'to' | 'from') =>
  async ({ lab }: Bed): Promise<void> => {
    for (const other of ['eu', 'us'])
      await fault(lab.plan.name, { kind: 'cut', target: 'eu/eu-worker2', [way]: other });
  };

/** Where each cluster reads the other through its mirror. */
export const mirrorScenarios: readonly Scenario[] = [
  interruptedByMirror,
  ...processOutages('the mirror', 'us:mesh-mirror', { until: 'stale' }),
  noMemoryFor('the mirror', 'us:mesh-mirror'),
];

export const scenarios: readonly Scenario[] = [
  rollingUpdate,
  ...interruptedUpdates,
  scaleToZero,
  nodeFault('a pod is gone without a word', {
    begin: bed => bed.eu.kubectl('-n', 'chaos', 'delete', 'pod', 'eu-two', '--force', '--grace-period=0'),
    end: bed => bed.eu.startBackend('eu-two', 'eu-worker2'),
    limit: POD,
  }),
  nodeFault('a node is killed', {
    begin: bed => fault(bed.lab.plan.name, { kind: 'kill', target: 'eu/eu-worker2' }),
    limit: PROMISE,
  }),
  {
    ...nodeFault('a node is killed through which the other cluster reads', {
      prepare: bed => readThrough(bed, 'eu-worker2'),
      begin: bed => fault(bed.lab.plan.name, { kind: 'kill', target: 'eu/eu-worker2' }),
      limit: PROMISE,
    }),
    withoutMirror: true,
  },
  nodeFault('a node with one of two clustermesh-apiservers is killed', {
    prepare: bed => replicas(bed, 2),
    begin: bed => fault(bed.lab.plan.name, { kind: 'kill', target: 'eu/eu-worker2' }),
    restore: bed => replicas(bed, 1),
    limit: PROMISE,
  }),
  nodeFault('a node with the only clustermesh-apiserver is killed', {
    prepare: bed => moveApiserver(bed.eu.cluster, 'eu-worker2'),
    begin: bed => fault(bed.lab.plan.name, { kind: 'kill', target: 'eu/eu-worker2' }),
    restore: bed => moveApiserver(bed.eu.cluster, 'eu-worker'),
    limit: PROMISE,
  }),
  nodeFault('a node is killed while the API server is paused', {
    alone: true,
    prepare: async bed => {
      await fault(bed.lab.plan.name, { kind: 'pause', target: 'eu:apiserver' });
      await until('us knows that eu does not see its nodes', 60, () => isBlind(bed.us, 'eu'));
    },
    begin: bed => fault(bed.lab.plan.name, { kind: 'kill', target: 'eu/eu-worker2' }),
    limit: PROMISE,
  }),
  nodeFault('the API server is killed, and a node', {
    alone: true,
    // Not part of the time that is measured; it takes seconds to be back.
    prepare: bed => fault(bed.lab.plan.name, { kind: 'kill', target: 'eu:apiserver' }),
    begin: bed => fault(bed.lab.plan.name, { kind: 'kill', target: 'eu/eu-worker2' }),
    limit: PROMISE,
    far: BLIND,
  }),
  nodeFault('the node with the only API server is killed', {
    alone: true,
    victim: 'eu-three',
    prepare: bed => bed.eu.startBackend('eu-three', 'eu-control-plane'),
    begin: bed => fault(bed.lab.plan.name, { kind: 'kill', target: 'eu/eu-control-plane' }),
    restore: bed => bed.eu.kubectl('-n', 'chaos', 'delete', 'pod', 'eu-three', '--now'),
    limit: PROMISE,
    far: BLIND,
  }),
  nodeFault('a node can send nothing (cut one way)', { begin: cutNode('to'), limit: PROMISE }),
  nodeFault('a node receives nothing (cut one way)', { begin: cutNode('from'), limit: PROMISE }),
  nodeFault('a node is cordoned', {
    begin: bed => bed.eu.kubectl('cordon', 'eu-worker2'),
    end: bed => bed.eu.kubectl('uncordon', 'eu-worker2'),
    limit: 0,
  }),
  nodeFault('all processes of a node are paused', {
    begin: bed => fault(bed.lab.plan.name, { kind: 'pause', target: 'eu/eu-worker2' }),
    limit: KUBERNETES,
  }),
  {
    name: 'a cluster is cut off, and comes back',
    async run(bed) {
      const lab = bed.lab.plan.name;
      await using client = await steady(bed.us, 'eu');
      const rows: Row[] = [];
      const cutAt = monotonic();
      await fault(lab, { kind: 'cut', target: 'eu' });
      await until('us goes on without eu', 60, () => isWithout(client, 'eu', cutAt));
      const state = await stateOf(bed.us, 'eu');
      rows.push({
        what: 'a cluster is cut off',
        client: 'us',
        cost: costOf(client, cutAt),
        limit: PROMISE,
        note: state,
      });

      const flapAt = monotonic();
      let longest = 0;
      for (let turn = 0; turn < 10; turn++) {
        const upAt = monotonic();
        await fault(lab, { kind: 'heal' });
        await sleep(Math.max(0, upAt + 900 - monotonic()));
        await fault(lab, { kind: 'cut', target: 'eu' });
        longest = Math.max(longest, monotonic() - upAt);
        await sleep(1000);
      }
      rows.push({
        what: 'its link comes and goes every second, ten times',
        client: 'us',
        cost: costOf(client, flapAt),
        limit: 0,
        note: `${answersOf(client, flapAt, 'eu')}; never up for more than ${(longest / 1000).toFixed(1)} s`,
      });
      rows.push(await healing('the link is whole again', bed, client, 'us', 'eu'));
      return rows;
    },
  },
  oneWay('a cluster can send nothing to the other', 'to'),
  oneWay('a cluster receives nothing from the other', 'from'),
  ...processOutages('clustermesh-apiserver', 'eu:mesh-apiserver'),
  ...processOutages('the mesh etcd', 'eu:mesh-etcd', { until: 'stale' }),
  noMemory,
  noSpace,
  noMemoryFor('clustermesh-apiserver', 'eu:mesh-apiserver'),
  ...processOutages('the operator', 'eu:operator'),
  noMemoryFor('the operator', 'eu:operator'),
  ...processOutages('the API server', 'eu:apiserver', { changeable: false }),
  ...processOutages("Kubernetes' etcd", 'eu:etcd', { changeable: false }),
  clockSkew,
  rotation,
];

interface NodeFault {
  prepare?(bed: Bed): Promise<unknown>;
  begin(bed: Bed): Promise<unknown>;
  /** Default: heal. */
  end?(bed: Bed): Promise<unknown>;
  restore?(bed: Bed): Promise<unknown>;
  /** Seconds. */
  readonly limit: number;
  /** The same for the other cluster. */
  readonly far?: number;
  /** The backend on that node. Default: eu-two. */
  readonly victim?: string;
  /** Nobody in eu can ask its API server. */
  readonly alone?: boolean;
}

/** A fault of a node of eu, by default eu-worker2, seen by a client in its own cluster and by one in the other. */
function nodeFault(what: string, options: NodeFault): Scenario {
  const { prepare, begin, end, restore, limit, victim = 'eu-two', alone = false } = options;
  const far = options.far ?? (limit === PROMISE ? DETOUR : limit);
  return {
    name: what,
    async run(bed) {
      await using near = await steady(bed.eu, 'us', alone ? bed.eu.nodeClient() : bed.eu.client());
      await using distant = await steady(bed.us, 'eu');
      await prepare?.(bed);
      const clients = [near, distant];
      await until('every backend answers', 60, () =>
        clients.every(client => client.since(monotonic() - 3000).some(each => each.by.startsWith(victim))),
      );
      const at = monotonic();
      await begin(bed);
      if (limit === 0) await nothingHappens();
      else
        await until('clients go on without it', KUBERNETES + 30, () =>
          clients.every(client => isWithout(client, victim, at)),
        );
      const row = (client: Client, name: string, seconds: number): Row => ({
        what,
        client: name,
        cost: costOf(client, at),
        limit: seconds,
        note: limit === 0 ? answersOf(client, at, victim) : '',
      });
      const rows = [row(near, 'eu', limit), row(distant, 'us', far)];
      rows.push(await healing(`${what}: healed`, bed, near, 'eu', victim, end));
      await restore?.(bed);
      return rows;
    },
  };
}

/** Packets between the clusters pass one way only: to both the other one is dead. */
function oneWay(what: string, way: 'to' | 'from'): Scenario {
  return {
    name: what,
    async run(bed) {
      await using near = await steady(bed.eu, 'us');
      await using far = await steady(bed.us, 'eu');
      const at = monotonic();
      await fault(bed.lab.plan.name, { kind: 'cut', target: 'eu', [way]: 'us' });
      await until(
        'each goes on without the other',
        60,
        () => isWithout(near, 'us', at) && isWithout(far, 'eu', at),
      );
      const row = async (client: Client, name: string, note: Promise<string>): Promise<Row> => ({
        what,
        client: name,
        cost: costOf(client, at),
        limit: PROMISE,
        note: await note,
      });
      return [
        await row(near, 'eu', stateOf(bed.eu, 'us')),
        await row(far, 'us', stateOf(bed.us, 'eu')),
        await healing(`${what}: healed`, bed, far, 'us', 'eu'),
      ];
    },
  };
}

/** The end of a fault: from then on no request fails, and who was out of service answers again. */
async function healing(
  what: string,
  bed: Bed,
  client: Client,
  name: string,
  by: string,
  end: NodeFault['end'] = ({ lab }) => fault(lab.plan.name, { kind: 'heal' }),
): Promise<Row> {
  const at = monotonic();
  await end(bed);
  const back = await until(`an answer of ${by}`, 180, () =>
    client.since(at).find(each => each.by.startsWith(by)),
  );
  await nothingHappens();
  return {
    what,
    client: name,
    cost: costOf(client, at),
    limit: 0,
    note: `first answer of it after ${((back.begin - at) / 1000).toFixed(1)} s`,
  };
}

/** Has every agent of us read eu through the NodePort of that node, by ending connections to the others. */
async function readThrough({ us, eu }: Bed, name: string): Promise<void> {
  const wanted = eu.cluster.plan.nodes.find(node => node.name === name)!.address;
  const others = eu.cluster.plan.nodes.flatMap(({ address }) => (address === wanted ? [] : [address]));
  const isDone = async (node: string): Promise<boolean> => {
    const found = await us.cluster.exec(node, 'ss', '-tnH', 'state', 'established');
    const away = others.filter(address => found.includes(` ${address}:`));
    for (const address of away) await us.cluster.exec(node, 'ss', '-K', 'dst', address);
    return away.length === 0 && found.includes(` ${wanted}:`);
  };
  await until(`us reads eu through ${name}`, 120, async () => {
    const done = await Promise.all(us.cluster.plan.nodes.map(node => isDone(node.name)));
    return done.every(Boolean);
  });
}

/** The second one is put on another worker, both of which eu has. */
async function replicas({ eu }: Bed, count: number): Promise<void> {
  const of = ['-n', 'kube-system'];
  await eu.kubectl(...of, 'scale', 'deployment/clustermesh-apiserver', `--replicas=${count}`);
  await eu.kubectl(...of, 'rollout', 'status', 'deployment/clustermesh-apiserver', '--timeout=180s');
}
