/** What is broken, and what must hold while it is: each number here is a promise of docs/failover.md. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fault } from '../../src/lab/fault.ts';
import type { Bed, Side } from './bed.ts';
import { type Client, type Cost, costOf, monotonic } from './client.ts';

export interface Row {
  readonly what: string;
  readonly client: string;
  readonly cost: Cost;
  /** Seconds after the fault until which requests may fail. */
  readonly limit: number;
  readonly note: string;
}

export interface Scenario {
  readonly name: string;
  run(bed: Bed): Promise<Row[]>;
}

/** Seconds in which a dead node or cluster must be out of service. */
const PROMISE = 3;
/** Kubernetes' own judgement of a node: its grace of 40 s, and its controller's rounds. */
const KUBERNETES = 60;

export const scenarios: readonly Scenario[] = [
  nodeFault('a node is killed', {
    begin: bed => fault(bed.lab.plan.name, { kind: 'kill', target: 'eu/eu-worker2' }),
    limit: PROMISE,
  }),
  nodeFault('a node can send nothing (cut one way)', {
    begin: async bed => {
      for (const to of ['eu', 'us'])
        await fault(bed.lab.plan.name, { kind: 'cut', target: 'eu/eu-worker2', to });
    },
    limit: PROMISE,
  }),
  nodeFault('a node receives nothing (cut one way)', {
    begin: async bed => {
      for (const from of ['eu', 'us'])
        await fault(bed.lab.plan.name, { kind: 'cut', target: 'eu/eu-worker2', from });
    },
    limit: PROMISE,
  }),
  nodeFault('a node is cordoned', {
    begin: bed => bed.eu.kubectl('cordon', 'eu-worker2'),
    end: bed => bed.eu.kubectl('uncordon', 'eu-worker2'),
    limit: 0,
  }),
  nodeFault('all processes of a node are paused', {
    begin: bed => fault(bed.lab.plan.name, { kind: 'pause', target: 'eu/eu-worker2' }),
    limit: KUBERNETES,
    seconds: KUBERNETES + 15,
  }),
  {
    name: 'a cluster is cut off, and comes back',
    async run(bed) {
      const lab = bed.lab.plan.name;
      await using client = await steady(bed.us, 'eu');
      const rows: Row[] = [];
      const cutAt = monotonic();
      await fault(lab, { kind: 'cut', target: 'eu' });
      await sleep(15_000);
      const states = await bed.us.states('eu');
      rows.push({
        what: 'a cluster is cut off',
        client: 'us',
        cost: costOf(client.since(cutAt), cutAt),
        limit: PROMISE,
        note: states.map(each => each.state).join(' '),
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
        cost: costOf(client.since(flapAt), flapAt),
        limit: 0,
        note: `${answersOf(client, flapAt, 'eu')}; never up for more than ${(longest / 1000).toFixed(1)} s`,
      });

      const healAt = monotonic();
      await fault(lab, { kind: 'heal' });
      const back = await until(90, () => client.since(healAt).find(each => each.by.startsWith('eu')));
      await sleep(5000);
      rows.push({
        what: 'the link is whole again',
        client: 'us',
        cost: costOf(client.since(healAt), healAt),
        limit: 0,
        note: `first answer of eu after ${((back.begin - healAt) / 1000).toFixed(1)} s`,
      });
      return rows;
    },
  },
  {
    name: 'only the control plane of a cluster is silent',
    async run(bed) {
      const lab = bed.lab.plan.name;
      await using client = await steady(bed.us, 'eu');
      const at = monotonic();
      await fault(lab, { kind: 'pause', target: 'eu:mesh-etcd' });
      await sleep(20_000);
      const states = await bed.us.states('eu');
      const answers = answersOf(client, at + 15_000, 'eu');
      await fault(lab, { kind: 'heal' });
      return [
        {
          what: 'only the control plane of a cluster is silent',
          client: 'us',
          cost: costOf(client.since(at), at),
          limit: 0,
          note: `${states.map(each => each.state).join(' ')}; at the end ${answers}`,
        },
      ];
    },
  },
];

interface NodeFault {
  begin(bed: Bed): Promise<unknown>;
  /** Default: heal. */
  end?(bed: Bed): Promise<unknown>;
  readonly limit: number;
  readonly seconds?: number;
}

/** A fault of eu-worker2, seen by a client in its own cluster and by one in the other. */
function nodeFault(what: string, { begin, end, limit, seconds = 15 }: NodeFault): Scenario {
  return {
    name: what,
    async run(bed) {
      await using near = await steady(bed.eu, 'us');
      await using far = await steady(bed.us, 'eu');
      const at = monotonic();
      await begin(bed);
      await sleep(seconds * 1000);
      const row = (client: Client, name: string): Row => ({
        what,
        client: name,
        cost: costOf(client.since(at), at),
        limit,
        note: answersOf(client, at + (seconds - 2) * 1000, 'eu-two'),
      });
      const rows = [row(near, 'eu'), row(far, 'us')];
      const healAt = monotonic();
      await (end ? end(bed) : fault(bed.lab.plan.name, { kind: 'heal' }));
      const back = await until(180, () => near.since(healAt).find(each => each.by === 'eu-two'));
      rows.push({
        what: `${what}: healed`,
        client: 'eu',
        cost: costOf(near.since(healAt), healAt),
        limit: 0,
        note: `first answer of it after ${((back.begin - healAt) / 1000).toFixed(1)} s`,
      });
      return rows;
    },
  };
}

/** A client whose requests have all been answered for two seconds, by every backend. */
async function steady(side: Side, remote: string): Promise<Client> {
  const client = side.client();
  const wanted = [side.cluster.name, remote].flatMap(each => [`${each}-one`, `${each}-two`]);
  await until(180, () => {
    const recent = client.since(monotonic() - 3000);
    const answered = new Set(recent.map(each => each.by));
    return (
      recent.length > 50 &&
      recent.every(each => each.outcome === 'ok') &&
      wanted.every(each => answered.has(each))
    );
  });
  return client;
}

function answersOf(client: Client, from: number, by: string): string {
  const requests = client.since(from);
  return `${requests.filter(each => each.by.startsWith(by)).length} of ${requests.length} answers from ${by}`;
}

async function until<T>(seconds: number, check: () => T | undefined | false): Promise<T> {
  const end = monotonic() + seconds * 1000;
  for (;;) {
    const found = check();
    if (found !== undefined && found !== false) return found;
    if (monotonic() > end) throw new Error(`not so within ${seconds} s`);
    await sleep(100);
  }
}
