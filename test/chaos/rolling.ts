/** Pods of eu come and go under load: nobody's requests fail, at home or in us, and nobody meets an unknown sender. */
import * as z from 'zod';
import { type Bed, rollingDeployment, type Side } from './bed.ts';
import { type Client, costOf, monotonic } from './client.ts';
import { until } from './conditions.ts';
import type { Row, Scenario } from './scenario.ts';

/** Requests per second of each client. */
const LOAD = 500;
const REPLICAS = 3;

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

export const rollingUpdate: Scenario = {
  name: 'a rolling update',
  async run(bed) {
    const { us, eu } = bed;
    await eu.apply(rollingDeployment(REPLICAS));
    const before = await whenPods(eu, REPLICAS, []);
    const unknown = await unknownSenders(bed);
    await using near = await loaded(eu, REPLICAS);
    await using far = await loaded(us, REPLICAS);
    const at = monotonic();
    await eu.kubectl('-n', 'chaos', 'rollout', 'restart', 'deployment/rolling');
    await whenPods(eu, REPLICAS, before);
    const seconds = ((monotonic() - at) / 1000).toFixed(0);
    const note = `${REPLICAS} pods replaced in ${seconds} s; unknown senders: ${(await unknownSenders(bed)) - unknown}`;
    return [rowOf('a rolling update', near, 'eu', at, ''), rowOf('a rolling update', far, 'us', at, note)];
  },
};

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
