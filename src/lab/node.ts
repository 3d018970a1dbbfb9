import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type CgroupLayout,
  cgroupProcesses,
  createCgroup,
  enableControllers,
  isUnified,
  killCgroup,
  removeCgroup,
} from './cgroup.ts';
import { createNodeNetworks, releaseNetwork, removePort } from './network.ts';
import { nodeInitScript, nodeStartCommand } from './node-init.ts';
import type { ClusterPlan, LabPlan, NodePlan } from './plan.ts';
import { nodeNamespace } from './plan.ts';
import { startDetached } from './process.ts';

export interface NodeOfLab {
  readonly cluster: ClusterPlan;
  readonly node: NodePlan;
}

/** All nodes of a lab, cluster by cluster. */
export function nodesOf(plan: LabPlan): NodeOfLab[] {
  return plan.clusters.flatMap(cluster => cluster.nodes.map(node => ({ cluster, node })));
}

/** Starts nodes whose disks are there. Their networks and cgroups are made new. */
export async function bootNodes(
  layout: CgroupLayout,
  plan: LabPlan,
  nodes: readonly NodeOfLab[],
  binDirectory: string,
): Promise<void> {
  await createNodeNetworks(plan, nodes);
  await Promise.all(
    nodes.map(async ({ cluster, node }) => {
      createCgroup(layout, node.cgroup);
      if (isUnified(layout)) mkdirSync(join(layout.v2, node.cgroup, 'init'), { recursive: true });
      const init = join(node.disk, 'init');
      mkdirSync(node.disk, { recursive: true });
      writeFileSync(init, nodeInitScript(layout, cluster, node, binDirectory), { mode: 0o755 });
      const namespace = nodeNamespace(plan, node.name);
      const { command, args } = nodeStartCommand(layout, node, `/run/netns/${namespace}`, init);
      const pid = await startDetached(command, args, { log: nodeConsole(node) });
      await releaseNetwork(plan, node, pid);
      if (isUnified(layout)) enableControllers(join(layout.v2, node.cgroup));
    }),
  );
}

/** Ends everything on a node at once, as a power cut does: processes, network, mounts. The disk stays. */
export async function killNode(layout: CgroupLayout, plan: LabPlan, node: NodePlan): Promise<void> {
  await killCgroup(layout, node.cgroup);
  await removePort(plan, node);
  await removeCgroup(layout, node.cgroup);
}

/** What a node's first processes printed: mounts that failed, services that ended. */
export function nodeConsole(node: NodePlan): string {
  return join(node.disk, 'console.log');
}

/** The log of one of a node's services. */
export function serviceLog(node: NodePlan, service: string): string {
  return join(node.disk, 'root/var/log', `${service}.log`);
}

/** Process 1 of a node as this machine numbers it, or undefined when the node is down. */
export function initProcess(layout: CgroupLayout, node: NodePlan): number | undefined {
  const own = [
    ...cgroupProcesses(layout, node.cgroup, false),
    ...cgroupProcesses(layout, `${node.cgroup}/init`, false),
  ];
  return own.find(pid => {
    try {
      const numbers = /^NSpid:\s+(.+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]?.split(/\s+/);
      return numbers !== undefined && numbers.length > 1 && numbers.at(-1) === '1';
    } catch {
      return false;
    }
  });
}

/** The command line that runs something inside a node, as if logged in there. */
export function insideNode(
  layout: CgroupLayout,
  node: NodePlan,
  pid: number,
  command: readonly string[],
): string[] {
  // Into the cgroup first, so that what is started dies with the node.
  const cgroup = join(layout.v2, node.cgroup, isUnified(layout) ? 'init' : '');
  return [
    '/bin/sh',
    '-c',
    `echo $$ > "$0/cgroup.procs" && exec nsenter --target ${pid} --mount --uts --ipc --net --pid --cgroup env -i -C / TERM="$TERM" HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"`,
    cgroup,
    ...command,
  ];
}
