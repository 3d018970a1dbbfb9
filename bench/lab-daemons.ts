/** The daemons of Isthmus and Cilium on a lab's nodes, seen from this machine: their processes, memory, CPU, maps. */
import { readFileSync } from 'node:fs';
import { cgroupProcesses } from '../src/lab/cgroup.ts';
import type { Lab } from '../src/lab/open-lab.ts';

export interface Daemon {
  /** agent, operator, clustermesh-apiserver, kvstoremesh, etcd (the mesh's). */
  readonly name: string;
  readonly cluster: string;
  readonly node: string;
  readonly pid: number;
}

/** Those that run now. */
export function daemons(lab: Lab): Daemon[] {
  return lab.clusters.flatMap(cluster =>
    cluster.plan.nodes.flatMap(node =>
      cgroupProcesses(lab.layout, node.cgroup, true).flatMap(pid => {
        const name = daemonName(pid);
        return name === undefined ? [] : [{ name, cluster: cluster.name, node: node.name, pid }];
      }),
    ),
  );
}

function daemonName(pid: number): string | undefined {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const bundle = words.map(word => /^\/isthmus\/dist\/(.+)\.mjs$/.exec(word)?.[1]).find(Boolean);
    return bundle ?? ownName(words);
  } catch {
    return undefined;
  }
}

/** Of a daemon whose executable says what it is; the etcd of Kubernetes itself is not started by its path. */
function ownName([path, command]: readonly string[]): string | undefined {
  switch (path) {
    case '/usr/local/bin/etcd':
    case '/usr/bin/etcd':
      return 'etcd';
    case 'cilium-agent':
      return 'agent';
    case 'cilium-operator-generic':
      return 'operator';
    case '/usr/bin/clustermesh-apiserver':
      return command === 'clustermesh' ? 'clustermesh-apiserver' : command;
    default:
      return undefined;
  }
}

/** Resident memory in MiB. */
export function memoryOf(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) / 1024;
}

/** CPU time used so far, in ms. */
export function cpuOf(pid: number): number {
  const fields = statFields(pid);
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Milliseconds from boot at which the process was started; the clock of `process.hrtime`. */
export function startOf(pid: number): number {
  return Number(statFields(pid)[19]) * 10;
}

/** Fields of /proc/PID/stat from the third on (proc_pid_stat(5)). */
function statFields(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}
