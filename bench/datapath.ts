/**
 * `npm run bench:datapath`: throughput, one-byte round trips and new connections through Isthmus, each row
 * beside its floor in the same minutes. Series are interleaved (floor, ours, floor, ours …) and medians
 * compared, since absolute times on a shared machine mean little.
 *
 * Both ends are pinned: `one core` puts client and server on CPU 0, `two cores` the server on CPU 1.
 * Needs a joined lab (`isthmus lab up --join`); options: --name LAB, --rounds N, --seconds S.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import * as z from 'zod';
import { ensureBinaries } from '../src/lab/binaries.ts';
import { type Floor, floor } from './floor.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const namespace = 'bench';
const image = 'registry.k8s.io/e2e-test-images/agnhost:2.57';

const probe = join(mkdtempSync(join(tmpdir(), 'isthmus-bench-')), 'probe');
execFileSync('gcc', ['-O2', '-static', '-pthread', '-o', probe, join(import.meta.dirname, 'probe.c')]);
const { kubectl } = await ensureBinaries(['kubectl'], { report: line => console.error(line) });

/** Somewhere a command can be run, as a prefix of its words. */
type Place = readonly string[];

interface Path {
  readonly name: string;
  readonly floor: keyof Floor['paths'];
  readonly address: string;
  readonly server: Place;
}

/**
 * In a namespace of the floor, under the scheduler's group of a pod: processes in the machine's root group
 * would be woken sooner. (Only where the cpu controller is cgroup v1: a v2 group has the pod's socket hooks.)
 */
const inFloor = (name: string, pod: string): Place => {
  const uid = run([...context('us'), 'get', 'pod', pod, '-o', 'jsonpath={.metadata.uid}']);
  const group = run(['find', '/sys/fs/cgroup/cpu', '-type', 'd', '-name', `pod${uid}`]).trim();
  const join = group ? `echo $$ > ${group}/cgroup.procs; ` : '';
  return ['sh', '-c', `${join}exec "$@"`, 'sh', 'ip', 'netns', 'exec', name];
};
const context = (cluster: string): Place => [kubectl, '--context', `isthmus-${cluster}`, '-n', namespace];
const inPod = (cluster: string, pod: string): Place => [...context(cluster), 'exec', '-i', pod, '--'];

function run(words: readonly string[], input?: string): string {
  return execFileSync(words[0]!, words.slice(1), { encoding: 'utf8', input, maxBuffer: 64 << 20 });
}

function start(words: readonly string[]): ChildProcess {
  return spawn(words[0]!, words.slice(1), { stdio: ['pipe', 'ignore', 'ignore'] });
}

function deploy(cluster: string, pods: Record<string, string>): void {
  const objects: object[] = [{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } }];
  for (const [name, nodeName] of Object.entries(pods)) {
    const containers = [{ name: 'c', image, imagePullPolicy: 'IfNotPresent', args: ['pause'] }];
    const spec = { nodeName, terminationGracePeriodSeconds: 0, containers };
    objects.push({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace, labels: { app: name } },
      spec,
    });
  }
  const ports = [{ name: 'echo', port: 7000 }];
  objects.push({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'far', namespace },
    spec: { selector: { app: 'far' }, ports },
  });
  run([...context(cluster), 'apply', '-f', '-'], objects.map(each => JSON.stringify(each)).join('\n---\n'));
  run([
    ...context(cluster),
    'wait',
    '--for=condition=Ready',
    '--timeout=60s',
    ...Object.keys(pods).map(each => `pod/${each}`),
  ]);
  for (const pod of Object.keys(pods)) run([...context(cluster), 'cp', probe, `${pod}:/tmp/probe`]);
}

const address = (cluster: string, pod: string): string =>
  run([...context(cluster), 'get', 'pod', pod, '-o', 'jsonpath={.status.podIP}']);

const results = {
  gbit: z.object({ gbit: z.number() }).transform(each => each.gbit),
  rtt: z.object({ p50: z.number() }).transform(each => each.p50),
  connect: z.object({ perSecond: z.number(), failed: z.number() }).transform(each => each.perSecond),
};

interface Measure {
  readonly name: string;
  readonly unit: string;
  readonly cores: 'one' | 'two';
  readonly goal: string;
  /** Ratio ours/floor is better when larger, or when smaller. */
  readonly better: 'more' | 'less';
  measure(client: Place, probePath: string, to: string): number;
}

const cpu = (index: number, words: readonly string[]): string[] => ['taskset', '-c', String(index), ...words];
const echo = 7000;
const sink = 7001;
const measures: Measure[] = [
  {
    name: 'throughput, one stream',
    unit: 'Gbit/s',
    cores: 'two',
    goal: '≥ 0.95',
    better: 'more',
    measure: (client, path, to) =>
      results.gbit.parse(
        JSON.parse(run([...client, ...cpu(0, [path, 'send', to, String(sink), String(seconds)])])),
      ),
  },
  {
    name: 'one-byte round trip p50',
    unit: 'µs',
    cores: 'one',
    goal: '≤ 1.15',
    better: 'less',
    measure: (client, path, to) =>
      results.rtt.parse(JSON.parse(run([...client, ...cpu(0, [path, 'rtt', to, String(echo), '20000'])]))),
  },
  {
    name: 'one-byte round trip p50',
    unit: 'µs',
    cores: 'two',
    goal: '≤ 1.15',
    better: 'less',
    measure: (client, path, to) =>
      results.rtt.parse(JSON.parse(run([...client, ...cpu(0, [path, 'rtt', to, String(echo), '20000'])]))),
  },
  {
    name: 'new connections',
    unit: '/s',
    cores: 'two',
    goal: '≥ 0.95',
    better: 'more',
    measure: (client, path, to) =>
      results.connect.parse(
        JSON.parse(run([...client, ...cpu(0, [path, 'connect', to, String(echo), String(seconds), '4'])])),
      ),
  },
];

function median(list: readonly number[]): number {
  const sorted = list.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/** Serves on both ports from a place, pinned, while `act` runs; the servers end with their input. */
async function serving(server: Place, path: string, core: number, act: () => void): Promise<void> {
  const children = [
    start([...server, ...cpu(core, [path, 'serve', String(echo)])]),
    start([...server, ...cpu(core, [path, 'sink', String(sink)])]),
  ];
  try {
    act();
  } finally {
    await Promise.all(
      children.map(each => {
        each.stdin?.end();
        return once(each, 'close');
      }),
    );
  }
}

function awaitServer(client: Place, path: string, to: string): void {
  const until = performance.now() + 10_000;
  for (;;) {
    try {
      run([...client, path, 'rtt', to, String(echo), '1']);
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
    }
  }
}

async function series(
  label: string,
  client: Place,
  clientProbe: string,
  server: Place,
  serverProbe: string,
  to: string,
  into: Map<string, number[]>,
): Promise<void> {
  for (const [index, each] of measures.entries()) {
    await serving(server, serverProbe, each.cores === 'one' ? 0 : 1, () => {
      awaitServer(client, clientProbe, to);
      const value = each.measure(client, clientProbe, to);
      const key = `${label} ${index}`;
      into.set(key, [...(into.get(key) ?? []), value]);
    });
  }
}

async function main(): Promise<void> {
  deploy('us', { client: 'us-worker', near: 'us-worker', far: 'us-worker2' });
  deploy('eu', { away: 'eu-worker' });
  const service = run([...context('us'), 'get', 'service', 'far', '-o', 'jsonpath={.spec.clusterIP}']);
  const paths: Path[] = [
    { name: 'same node', floor: 'sameNode', address: address('us', 'near'), server: inPod('us', 'near') },
    { name: 'between nodes', floor: 'vxlan', address: address('us', 'far'), server: inPod('us', 'far') },
    {
      name: 'between clusters',
      floor: 'vxlanRouted',
      address: address('eu', 'away'),
      server: inPod('eu', 'away'),
    },
    { name: 'ClusterIP, other node', floor: 'vxlan', address: service, server: inPod('us', 'far') },
  ];
  const seen = new Map<string, number[]>();
  const client = inPod('us', 'client');
  using ground: Floor = floor();
  for (let round = 0; round < rounds; round++) {
    for (const each of paths) {
      process.stderr.write(`round ${round + 1} of ${rounds}: ${each.name}\n`);
      const below = ground.paths[each.floor];
      await series(
        `floor ${each.name}`,
        inFloor(ground.client, 'client'),
        probe,
        inFloor(below.server, each.floor === 'sameNode' ? 'near' : 'far'),
        probe,
        below.address,
        seen,
      );
      if (each.name.startsWith('ClusterIP')) await clusterIp(client, each, seen);
      else
        await series(
          `ours ${each.name}`,
          client,
          '/tmp/probe',
          each.server,
          '/tmp/probe',
          each.address,
          seen,
        );
    }
  }
  const table = new Table({
    head: ['path', 'measure', 'cores', 'floor', 'Isthmus', 'ratio', 'goal'],
    style: { head: [], border: [] },
  });
  for (const each of paths)
    for (const [index, measure] of measures.entries()) {
      const ours = median(seen.get(`ours ${each.name} ${index}`) ?? []);
      const ground = median(seen.get(`floor ${each.name} ${index}`) ?? []);
      if (Number.isNaN(ours)) continue;
      table.push([
        each.name,
        measure.name,
        measure.cores,
        `${ground} ${measure.unit}`,
        `${ours} ${measure.unit}`,
        (ours / ground).toFixed(2),
        measure.goal,
      ]);
    }
  process.stdout.write(
    `${table.toString()}\nmedian of ${rounds} interleaved rounds; floor: plain veth routing on one node, kernel VXLAN otherwise\n`,
  );
  for (const cluster of ['us', 'eu'])
    run([...context(cluster), 'delete', 'namespace', namespace, '--wait=false']);
}

/** Through the service only the echo port exists: the connection rate and the round trip are what can differ. */
async function clusterIp(client: Place, path: Path, seen: Map<string, number[]>): Promise<void> {
  for (const [index, each] of measures.entries()) {
    if (each.unit === 'Gbit/s') continue;
    await serving(path.server, '/tmp/probe', each.cores === 'one' ? 0 : 1, () => {
      awaitServer(client, '/tmp/probe', path.address);
      const value = each.measure(client, '/tmp/probe', path.address);
      const key = `ours ${path.name} ${index}`;
      seen.set(key, [...(seen.get(key) ?? []), value]);
    });
  }
}

await main();
