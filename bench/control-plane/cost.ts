import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import * as z from 'zod';
import { cpuOf, daemons, memoryOf } from '../lab-daemons.ts';
import type { Bed } from './bed.ts';
import { mapFolder } from './map-watch.ts';
import type { Result } from './report.ts';

interface Reference {
  readonly goal: string;
  readonly cilium: string;
}

/** By daemon: what is wanted of, and known about, memory (MiB) with no, 1k and 10k remote endpoints. */
const memory: Readonly<Record<string, readonly [none: Reference, some: Reference, many: Reference]>> = {
  agent: [
    { goal: '≤ 120', cilium: '170' },
    { goal: '', cilium: '191' },
    { goal: '≤ 170', cilium: '244' },
  ],
  operator: [
    { goal: '', cilium: '111' },
    { goal: '', cilium: '111' },
    { goal: '', cilium: '111' },
  ],
  'clustermesh-apiserver': [
    { goal: '', cilium: '77 (and kvstoremesh 71)' },
    { goal: '', cilium: '79 (83)' },
    { goal: '', cilium: '77 (97)' },
  ],
  etcd: [
    { goal: '', cilium: '31' },
    { goal: '', cilium: '37' },
    { goal: '', cilium: '57 to 69' },
  ],
};
const idle: Readonly<Record<string, string>> = {
  agent: '1.4 to 1.8',
  operator: '0.4',
  'clustermesh-apiserver': '0.2 (and kvstoremesh 0.1)',
  etcd: '0.4',
};

/** Resident memory and CPU time of every daemon of us, where agents of all its nodes are one line. */
export async function cost(bed: Bed, remoteEndpoints: number, measured = 30, peer?: Bed): Promise<Result[]> {
  const home = bed.us.cluster.name;
  const abroad = peer?.us.cluster.name;
  const all = daemons(bed.lab).filter(each => each.cluster === home || each.cluster === abroad);
  const before = all.map(each => cpuOf(each.pid));
  await pause(measured * 1000);
  const seen = all.map((each, index) => ({
    ...each,
    memory: memoryOf(each.pid),
    cpu: (cpuOf(each.pid) - before[index]!) / (measured * 10),
  }));
  const when =
    remoteEndpoints === 0 ? 'in a small mesh' : `with ${remoteEndpoints} endpoints of a remote cluster`;
  const column = remoteEndpoints === 0 ? 0 : remoteEndpoints < 10_000 ? 1 : 2;
  return Object.keys(memory).flatMap(name => {
    const own = seen.filter(each => each.name === name && each.cluster === home);
    const theirs = seen.filter(each => each.name === name && each.cluster === abroad);
    const mirror = seen.filter(each => each.name === 'kvstoremesh' && each.cluster === abroad);
    const range = (values: readonly number[], digits: number): string => {
      const texts = [Math.min(...values), Math.max(...values)].map(value => value.toFixed(digits));
      return texts[0] === texts[1] ? texts[0]! : texts.join(' … ');
    };
    const ranges = (list: typeof seen) => ({
      memory: range(
        list.map(each => each.memory),
        0,
      ),
      cpu: range(
        list.map(each => each.cpu),
        2,
      ),
    });
    const beside = (of: 'memory' | 'cpu'): { readonly peer?: string } => {
      if (theirs.length === 0) return {};
      // What has no counterpart in ours is shown with the process whose pod it shares.
      const shared = name === 'clustermesh-apiserver' && mirror.length > 0;
      return { peer: ranges(theirs)[of] + (shared ? ` (and kvstoremesh ${ranges(mirror)[of]})` : '') };
    };
    const { goal, cilium } = memory[name]![column]!;
    return [
      {
        what: `${name}, resident memory ${when}, MiB`,
        isthmus: ranges(own).memory,
        ...beside('memory'),
        goal,
        cilium,
      },
      {
        what: `${name}, CPU ${when}, nothing happening, % of a core`,
        isthmus: ranges(own).cpu,
        ...beside('cpu'),
        goal: name === 'agent' ? '< 1' : '',
        cilium: remoteEndpoints === 0 ? idle[name]! : '',
      },
    ];
  });
}

const shown = z.object({ bytes_memlock: z.number() });

/** Kernel memory of the maps a node's datapath has pinned. */
export function mapMemory(bed: Bed, peer?: Bed): Result {
  return {
    what: 'BPF maps of a node, MiB',
    isthmus: pinnedMebibytes(bed),
    ...(peer !== undefined && { peer: pinnedMebibytes(peer) }),
    goal: '≤ 64',
    cilium: '156',
  };
}

function pinnedMebibytes({ lab, us, network }: Bed): string {
  const folder = mapFolder(lab, us.node, network);
  const bytes = readdirSync(folder, { withFileTypes: true })
    .filter(each => !each.isDirectory())
    .map(({ name }) => {
      const text = execFileSync('bpftool', ['-j', 'map', 'show', 'pinned', join(folder, name)], {
        encoding: 'utf8',
      });
      return shown.parse(JSON.parse(text)).bytes_memlock;
    });
  return (bytes.reduce((sum, each) => sum + each, 0) / 2 ** 20).toFixed(1);
}
