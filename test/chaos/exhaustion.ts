/** Processes of eu get no memory, its mesh etcd no space either. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import type { EtcdConnection } from '../../src/kvstore/connection.ts';
import { encodeKey, prefixEnd } from '../../src/kvstore/range.ts';
import { dial } from '../../src/kvstore/session.ts';
import { targetProcesses } from '../../src/lab/node-process.ts';
import { parseTarget } from '../../src/lab/target.ts';
import type { Bed } from './bed.ts';
import { until } from './conditions.ts';
import { outage } from './outage.ts';
import type { Scenario } from './scenario.ts';

function processOf({ lab }: Bed, name: string): number {
  const target = parseTarget(lab.plan, name);
  const [pid] = target.kind === 'process' ? targetProcesses(lab.layout, target) : [];
  if (pid === undefined) throw new Error(`there is no ${name}`);
  return pid;
}

/** Gives its cgroup hardly more than it has now. The one that is started in its place has its own. */
function pressOn(pid: number): () => void {
  const cgroups = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
  const [, older] = /^\d+:memory:(.*)$/m.exec(cgroups) ?? [];
  const [, unified = ''] = /^0::(.*)$/m.exec(cgroups) ?? [];
  const [used, limit] =
    older === undefined
      ? ['memory.current', 'memory.max'].map(name => join('/sys/fs/cgroup', unified, name))
      : ['usage', 'limit'].map(name => join('/sys/fs/cgroup/memory', older, `memory.${name}_in_bytes`));
  return () => writeFileSync(limit!, String(Number(readFileSync(used!, 'utf8')) + 65_536));
}

/** What it keeps grows meanwhile. */
export const noMemory = outage('the mesh etcd runs out of memory', {
  async begin(bed) {
    const pid = processOf(bed, 'eu:mesh-etcd');
    await untilItEnds(bed, pid, pressOn(pid));
  },
  end: tidy,
});

/** A daemon of ours, whose work makes and throws away. */
export const noMemoryFor = (what: string, target: string): Scenario =>
  outage(`${what} runs out of memory`, {
    async begin(bed) {
      const pid = processOf(bed, target);
      const press = pressOn(pid);
      await until(`the end of ${target}`, 60, () => {
        if (!isAlive(pid)) return true;
        try {
          press();
        } catch {
          // It is about to end, or nothing more can be taken from it now.
        }
        return undefined;
      });
    },
    passing: true,
  });

/** Writes into it until it does, below a prefix that nobody reads. */
async function untilItEnds(bed: Bed, pid: number, press: () => void = () => undefined): Promise<void> {
  using etcd = await connectAsAdmin(bed);
  let written = 0;
  await until('the end of the mesh etcd', 60, async () => {
    if (!isAlive(pid)) return true;
    press();
    try {
      const key = encodeKey(`${prefix}${written}`);
      await etcd.kv.put({ key, value: encodeKey('x'.repeat(1_000_000)) });
      written++;
    } catch {
      // It is about to end.
    }
    return undefined;
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const prefix = 'chaos/';

async function tidy(bed: Bed): Promise<void> {
  await until('the mesh etcd answers', 180, async () => {
    try {
      using etcd = await connectAsAdmin(bed);
      return await etcd.kv.deleteRange({ key: encodeKey(prefix), rangeEnd: prefixEnd(prefix) });
    } catch {
      return undefined;
    }
  });
}

const tlsSecret = z.object({
  data: z.object({ 'ca.crt': z.string(), 'tls.crt': z.string(), 'tls.key': z.string() }),
});

async function connectAsAdmin({ eu }: Bed): Promise<EtcdConnection> {
  const name = 'clustermesh-apiserver-admin-cert';
  const found = await eu.kubectl('-n', 'kube-system', 'get', 'secret', name, '-o', 'json');
  const { data } = tlsSecret.parse(JSON.parse(found));
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-chaos-'));
  try {
    for (const [file, value] of Object.entries(data))
      writeFileSync(join(folder, file), Buffer.from(value, 'base64'), { mode: 0o600 });
    const tls = {
      ca: join(folder, 'ca.crt'),
      cert: join(folder, 'tls.crt'),
      key: join(folder, 'tls.key'),
    };
    const [node] = eu.cluster.plan.nodes;
    const endpoint = { host: node!.address, port: 32_379, serverName: 'eu.mesh.cilium.io' };
    return await dial([endpoint], { tls }, AbortSignal.timeout(10_000));
  } finally {
    rmSync(folder, { recursive: true });
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

/** The folder takes 64 KiB more than there is, in files that are not full yet. */
export const noSpace = outage('the mesh etcd has no space left', {
  async begin(bed) {
    const pid = processOf(bed, 'eu:mesh-etcd');
    await resize(bed, used => `${used + 64}k`);
    await untilItEnds(bed, pid);
  },
  async end(bed) {
    await resize(bed, () => '2g');
    await tidy(bed);
  },
});
