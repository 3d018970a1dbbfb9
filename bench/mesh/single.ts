/**
 * Changes of one remote cluster, one after the other, to a mirror's copy of it: ours, and Cilium's kvstoremesh beside it
 * on the same changes. Without a lab: etcds and mirrors are processes of this machine. A busy machine makes times long, so
 * the processor time of each mirror is told, too.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { remoteUser, syncRemoteUsers } from '../../src/clustermesh/access.ts';
import { freePort } from '../../test/free-port.ts';
import { etcdConfiguration } from '../../test/interop/kvstoremesh.ts';
import { Arrivals } from '../arrivals.ts';
import { now } from '../control-plane/bed.ts';
import { type Result, spread } from '../control-plane/report.ts';
import { SyntheticEtcd } from '../synthetic-etcd.ts';
import { addressRow, globalService } from '../synthetic-rows.ts';
import { type MirrorKind, RunningMirror } from './mirrors.ts';
import { SyntheticMesh } from './synthetic-mesh.ts';
import { threadTime } from './thread-time.ts';

const HOST = '127.0.0.1';
const NAMESPACE = 'bench';
/** Changes before those that count: programs that compile as they run are slow at first. */
const WARM = 500;
/** Milliseconds of looking at what a mirror does without changes. */
const IDLE = 8000;

interface Candidate {
  readonly kind: MirrorKind;
  readonly pid: number;
  readonly arrivals: Arrivals;
  readonly times: number[];
}

export async function single(changes: number, peer: boolean): Promise<Result[]> {
  const etcd = await SyntheticEtcd.start('syn1', HOST, await freePort());
  await using far = await SyntheticMesh.fill(etcd, {
    ...{ clusters: 1, nodes: 10, endpoints: 1000, services: 100, namespace: NAMESPACE, cached: false },
  });
  await syncRemoteUsers(far.connection, ['hub']);
  const cluster = far.clusters[0]!;
  const configuration = etcdConfiguration(etcd, await etcd.certificate(remoteUser('hub')));
  await using stack = new AsyncDisposableStack();
  const candidates: Candidate[] = [];
  for (const kind of peer ? (['isthmus', 'kvstoremesh'] as const) : (['isthmus'] as const)) {
    const port = await freePort();
    const mirror = stack.use(
      await RunningMirror.start({ kind, cluster: 'hub', host: HOST, port, within: [] }),
    );
    mirror.copy(cluster.name, configuration);
    await mirror.whole(cluster.name, cluster.endpoints);
    const arrivals = new Arrivals(kind, 300);
    stack.use(mirror.watch(cluster.name, NAMESPACE, arrivals));
    candidates.push({ kind, pid: mirror.pid, arrivals, times: [] });
  }

  let count = 0;
  let before: string | undefined;
  /** A pod is replaced; resolves to the time that etcd took, when it has come everywhere. */
  const change = async (): Promise<number> => {
    const node = count % cluster.nodes;
    const address = `10.${cluster.id}.${node}.${101 + (Math.floor(count++ / cluster.nodes) % 150)}`;
    const rows = [
      globalService(cluster, 'single', '10.96.1.1', [address]),
      addressRow(cluster, address, node, 0),
    ];
    const started = now();
    await far.put(rows, before === undefined ? [] : [addressRow(cluster, before, 0, 0).key]);
    const answered = now() - started;
    before = address;
    for (const { arrivals, times } of candidates)
      times.push((await arrivals.of(`single ${address}`)) - started);
    return answered;
  };
  for (let n = 0; n < WARM; n++) await change();
  for (const { times } of candidates) times.length = 0;
  await pause(1000);
  const idle = await spentBy(candidates, () => pause(IDLE));
  const answers: number[] = [];
  const busy = await spentBy(candidates, async () => {
    for (let n = 0; n < changes; n++) {
      // Not in step with anything that happens regularly.
      await pause(50 + Math.random() * 100);
      answers.push(await change());
    }
  });
  const perChange = (at: number): string =>
    ((busy.spent[at]! - (idle.spent[at]! / idle.seconds) * busy.seconds) / changes).toFixed(2);
  const row = (what: string, of: (at: number) => string, goal = ''): Result => ({
    ...{ what, isthmus: of(0), goal, cilium: '' },
    ...(peer && { peer: of(1) }),
  });
  return [
    row('endpoint change → etcd has answered, ms p50 / p90 / p99', () => spread(answers)),
    row('… → its copy', at => spread(candidates[at]!.times), 'less than the peer'),
    row('… the mirror’s processor time, ms', perChange),
  ];
}

/** Milliseconds of processor time that each takes while something is done. */
async function spentBy(candidates: readonly Candidate[], work: () => Promise<void>) {
  const started = now();
  const before = candidates.map(({ pid }) => threadTime(pid));
  await work();
  return {
    spent: candidates.map(({ pid }, at) => threadTime(pid) - before[at]!),
    seconds: (now() - started) / 1e6,
  };
}
