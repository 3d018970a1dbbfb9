/** The mesh etcd of eu gets neither memory nor space. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
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

/** Gives its cgroup a limit that it cannot keep; the one that is started in its place has its own. */
export const noMemory = outage('the mesh etcd runs out of memory', {
  async begin(bed) {
    const pid = meshEtcd(bed);
    const [, v2] = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8')) ?? [];
    const [, v1] = /^\d+:memory:(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8')) ?? [];
    const unified = join('/sys/fs/cgroup', v2 ?? '', 'memory.max');
    await until('its end', 60, async () => {
      if (!existsSync(`/proc/${pid}/exe`)) return true;
      if (v1 === undefined) writeFileSync(unified, '1M');
      else squeeze(join('/sys/fs/cgroup/memory', v1));
      await grow(bed, 20);
      return undefined;
    });
  },
  end: async bed => shrink(bed),
});

/** The older hierarchy refuses a limit below what cannot be taken back: as near to it as it lets us. */
function squeeze(cgroup: string): void {
  for (let spare = 1; spare < 2 ** 30; spare *= 2)
    try {
      const used = Number(readFileSync(join(cgroup, 'memory.usage_in_bytes'), 'utf8'));
      writeFileSync(join(cgroup, 'memory.limit_in_bytes'), String(Math.floor(used / 2) + spare * 4096));
      return;
    } catch {
      // EBUSY
    }
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

/** The folder takes 64 KiB more, and then services that change until etcd gives up. */
export const noSpace = outage('the mesh etcd has no space left', {
  async begin(bed) {
    const pid = meshEtcd(bed);
    await resize(bed, used => `${used + 64}k`);
    await until('its end', 60, async () => {
      if (!existsSync(`/proc/${pid}/exe`)) return true;
      await grow(bed, 200);
      return undefined;
    });
  },
  async end(bed) {
    await resize(bed, () => '2g');
    await shrink(bed);
  },
});

let version = 0;

/** Changes a service of eu that has so many backends, none of which is there. */
async function grow({ eu }: Bed, backends: number): Promise<void> {
  version++;
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
        endpoints: Array.from({ length: backends }, (_, at) => ({
          addresses: [`10.2.${200 + Math.floor(at / 250)}.${1 + (at % 250)}`],
        })),
      },
    ],
  });
}

async function shrink({ eu }: Bed): Promise<void> {
  await eu.kubectl('-n', namespace, 'delete', 'service/large', 'endpointslice/large', '--ignore-not-found');
}
