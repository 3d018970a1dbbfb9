import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CgroupLayout, cgroupProcesses } from './cgroup.ts';
import { nodeRoot } from './node-disk.ts';
import type { NodePlan } from './plan.ts';
import { type ProcessEntry, processEntry } from './process.ts';
import type { ProcessName, Target } from './target.ts';

/** How a process is known: a service by its executable, one in a pod by the pod's name as well. */
type Signature =
  | { readonly command: string }
  | { readonly pod: RegExp; readonly process: (entry: ProcessEntry) => boolean };

const signatures: Readonly<Record<ProcessName, Signature>> = {
  etcd: { command: 'etcd' },
  apiserver: { command: 'kube-apiserver' },
  'controller-manager': { command: 'kube-controller' },
  scheduler: { command: 'kube-scheduler' },
  kubelet: { command: 'kubelet' },
  containerd: { command: 'containerd' },
  agent: { pod: /^isthmus-[a-z0-9]{5}$/, process: () => true },
  operator: { pod: /^isthmus-operator-/, process: () => true },
  'mesh-apiserver': {
    pod: /^clustermesh-apiserver-/,
    process: entry => entry.command !== 'etcd' && !isMirror(entry),
  },
  'mesh-mirror': { pod: /^clustermesh-apiserver-/, process: entry => isMirror(entry) },
  'mesh-etcd': { pod: /^clustermesh-apiserver-/, process: entry => entry.command === 'etcd' },
  coredns: { pod: /^coredns-/, process: () => true },
};

const isMirror = (entry: ProcessEntry): boolean => entry.arguments.includes('kvstoremesh');

/** Process IDs, as this machine numbers them, of what a target of kind `process` names. */
export function targetProcesses(
  layout: CgroupLayout,
  target: Target & { readonly kind: 'process' },
): number[] {
  const nodes = target.node === undefined ? target.cluster.nodes : [target.node];
  return nodes.flatMap(node => namedProcesses(layout, node, target.process));
}

function namedProcesses(layout: CgroupLayout, node: NodePlan, name: ProcessName): number[] {
  const signature = signatures[name];
  if ('command' in signature) {
    const own = [
      ...cgroupProcesses(layout, node.cgroup, false),
      ...cgroupProcesses(layout, `${node.cgroup}/init`, false),
    ];
    return own.filter(pid => processEntry(pid)?.command === signature.command);
  }
  return podCgroups(layout, node, signature.pod).flatMap(cgroup =>
    cgroupProcesses(layout, cgroup, true).filter(pid => {
      const entry = processEntry(pid);
      return entry !== undefined && entry.command !== 'pause' && signature.process(entry);
    }),
  );
}

/** cgroups of the node's pods whose name matches. A pod's name and UID are in the name of its log folder. */
function podCgroups(layout: CgroupLayout, node: NodePlan, name: RegExp): string[] {
  const logs = join(nodeRoot(node), 'var/log/pods');
  if (!existsSync(logs)) return [];
  const found: string[] = [];
  for (const entry of readdirSync(logs)) {
    const [, pod, uid] = entry.split('_');
    if (pod === undefined || uid === undefined || !name.test(pod)) continue;
    for (const quality of ['', 'burstable', 'besteffort']) {
      const cgroup = join(node.cgroup, 'kubepods', quality, `pod${uid}`);
      if (existsSync(join(layout.v2, cgroup))) found.push(cgroup);
    }
  }
  return found;
}

/** True when a process has been stopped by a signal. */
export function isStopped(pid: number): boolean {
  try {
    return /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
