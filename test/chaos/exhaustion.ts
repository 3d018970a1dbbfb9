/** The mesh etcd of eu gets neither memory nor space. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { targetProcesses } from '../../src/lab/node-process.ts';
import { parseTarget } from '../../src/lab/target.ts';
import { type Bed, namespace } from './bed.ts';
import { until } from './conditions.ts';
import { outage } from './outage.ts';

function meshEtcd({ lab }: Bed): number {
  const target = parseTarget(lab.plan, 'eu:mesh-etcd');
  const [pid] = target.kind === 'process' ? targetProcesses(lab.layout, target) : [];
  if (pid === undefined) throw new Error('eu has no mesh etcd');
  return pid;
}

/** Gives its cgroup no more than it has, while what it keeps grows. The one that is started in its place has its own. */
export const noMemory = outage('the mesh etcd runs out of memory', {
  async begin(bed) {
    const pid = meshEtcd(bed);
    const cgroups = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    const [, older] = /^\d+:memory:(.*)$/m.exec(cgroups) ?? [];
    const [, unified = ''] = /^0::(.*)$/m.exec(cgroups) ?? [];
    const [used, limit] =
      older === undefined
        ? ['memory.current', 'memory.max'].map(name => join('/sys/fs/cgroup', unified, name))
        : ['usage', 'limit'].map(name => join('/sys/fs/cgroup/memory', older, `memory.${name}_in_bytes`));
    await untilItEnds(bed, pid, () =>
      writeFileSync(limit!, String(Number(readFileSync(used!, 'utf8')) + 65_536)),
    );
  },
  end: shrink,
});

/** Services change until it does. */
async function untilItEnds(bed: Bed, pid: number, press: () => void = () => undefined): Promise<void> {
  await until('the end of the mesh etcd', 60, async () => {
    try {
      press();
      process.kill(pid, 0);
    } catch {
      return true;
    }
    await grow(bed);
    return undefined;
  });
}

const meshPod = z.object({
  items: z.tuple([
    z.object({ metadata: z.object({ uid: z.string() }), spec: z.object({ nodeName: z.string() }) }),
  ]),
});

/** The size of its folder, which is in memory. */
async function resize({ eu }: Bed, size: (used: number) => string): Promise<void> {
  const found = await eu.kubectl(
    ...['-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=clustermesh-apiserver', '-o', 'json'],
  );
  const [{ metadata, spec }] = meshPod.parse(JSON.parse(found)).items;
  const folder = `/var/lib/kubelet/pods/${metadata.uid}/volumes/kubernetes.io~empty-dir/etcd-data`;
  const [used] = (await eu.cluster.exec(spec.nodeName, 'du', '-sk', folder)).split('\t');
  await eu.cluster.exec(spec.nodeName, 'mount', '-o', `remount,size=${size(Number(used))}`, folder);
}

/** The folder takes 64 KiB more than there is, in files that are not full yet. */
export const noSpace = outage('the mesh etcd has no space left', {
  async begin(bed) {
    const pid = meshEtcd(bed);
    await resize(bed, used => `${used + 64}k`);
    await untilItEnds(bed, pid);
  },
  async end(bed) {
    await resize(bed, () => '2g');
    await shrink(bed);
  },
});

let version = 0;

/** Changes a service of eu with as many backends as a slice can name, none of which is there, and long hints to each. */
async function grow({ eu }: Bed): Promise<void> {
  version++;
  const zones = Array.from({ length: 8 }, (_, at) => `${at}${'z'.repeat(62)}`);
  const metadata = { name: 'large', namespace };
  await eu.apply({
    apiVersion: 'v1',
    kind: 'List',
    items: [
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { ...metadata, annotations: { 'service.cilium.io/global': 'true' } },
        spec: { ports: [{ port: 80 }] },
      },
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'large' } },
        addressType: 'IPv4',
        ports: [{ port: 1024 + version }],
        endpoints: Array.from({ length: 1000 }, (_, at) => ({
          addresses: [`10.2.${200 + Math.floor(at / 250)}.${1 + (at % 250)}`],
          zone: zones[0],
          hints: { forZones: zones.map(name => ({ name })) },
        })),
      },
    ],
  });
}

async function shrink({ eu }: Bed): Promise<void> {
  await eu.kubectl('-n', namespace, 'delete', 'service/large', 'endpointslice/large', '--ignore-not-found');
}
