import { Failure } from '../failure.ts';
import type { ClusterPlan, LabPlan, NodePlan } from './plan.ts';

/** What a fault or a shell is for: a cluster, a node, or a process of either. */
export type Target =
  | { readonly kind: 'cluster'; readonly cluster: ClusterPlan }
  | { readonly kind: 'node'; readonly cluster: ClusterPlan; readonly node: NodePlan }
  | {
      readonly kind: 'process';
      readonly cluster: ClusterPlan;
      /** Undefined: on whichever node of the cluster it runs. */
      readonly node: NodePlan | undefined;
      readonly process: ProcessName;
    };

/** Processes that can be named. The first group are services of a node's init, the second run in pods. */
export const processNames = [
  'etcd',
  'apiserver',
  'controller-manager',
  'scheduler',
  'kubelet',
  'containerd',
  'agent',
  'operator',
  'mesh-apiserver',
  'mesh-mirror',
  'mesh-etcd',
  'coredns',
] as const;
export type ProcessName = (typeof processNames)[number];

const onControlPlane: readonly ProcessName[] = ['etcd', 'apiserver', 'controller-manager', 'scheduler'];
const perNode: readonly ProcessName[] = ['kubelet', 'containerd', 'agent'];

/**
 * Reads `us`, `us/us-worker`, `us/worker`, `us-worker`, `us:etcd` or `us/worker:agent`. Throws Failure that
 * says what there is.
 */
export function parseTarget(plan: LabPlan, text: string): Target {
  const [place = '', process, ...rest] = text.split(':');
  if (rest.length > 0) throw unknown(text, 'CLUSTER, CLUSTER/NODE, CLUSTER:PROCESS or CLUSTER/NODE:PROCESS');
  const { cluster, node } = findPlace(plan, place, text);
  if (process === undefined)
    return node === undefined ? { kind: 'cluster', cluster } : { kind: 'node', cluster, node };
  const name = processNames.find(each => each === process || `kube-${each}` === process);
  if (name === undefined) throw unknown(text, `a process of ${processNames.join(', ')}`);
  if (onControlPlane.includes(name)) {
    const controlPlane = cluster.nodes[0]!;
    if (node !== undefined && node !== controlPlane)
      throw unknown(text, `${cluster.name}:${name}, because it runs on ${controlPlane.name}`);
    return { kind: 'process', cluster, node: controlPlane, process: name };
  }
  if (perNode.includes(name) && node === undefined) {
    throw unknown(
      text,
      `a node, because each has its own: ${cluster.name}/${cluster.nodes[0]!.name}:${name}`,
    );
  }
  return { kind: 'process', cluster, node, process: name };
}

/** A target that must be a node. A cluster stands for its control-plane node. */
export function parseNode(plan: LabPlan, text: string): { cluster: ClusterPlan; node: NodePlan } {
  const target = parseTarget(plan, text);
  if (target.kind === 'process') throw unknown(text, 'a node');
  return { cluster: target.cluster, node: target.kind === 'node' ? target.node : target.cluster.nodes[0]! };
}

/** Reads `us-eu`: the link between two clusters, in the order given. */
export function parseLink(plan: LabPlan, text: string): readonly [ClusterPlan, ClusterPlan] {
  for (const a of plan.clusters)
    for (const b of plan.clusters) if (a !== b && text === `${a.name}-${b.name}`) return [a, b];
  const links = plan.clusters.flatMap((a, i) => plan.clusters.slice(i + 1).map(b => `${a.name}-${b.name}`));
  throw new Failure(
    `found link "${text}", expected one of ${links.join(', ') || 'none: there is one cluster'}`,
    {
      exitCode: 2,
    },
  );
}

/** The link's name whichever way round it was given. */
export function linkName([a, b]: readonly [ClusterPlan, ClusterPlan]): string {
  return a.number < b.number ? `${a.name}-${b.name}` : `${b.name}-${a.name}`;
}

function findPlace(
  plan: LabPlan,
  place: string,
  text: string,
): { readonly cluster: ClusterPlan; readonly node: NodePlan | undefined } {
  const [first = '', second, ...rest] = place.split('/');
  const cluster = plan.clusters.find(({ name }) => name === first);
  if (cluster === undefined && second === undefined) {
    for (const each of plan.clusters) {
      const node = each.nodes.find(({ name }) => name === first);
      if (node !== undefined) return { cluster: each, node };
    }
  }
  if (cluster === undefined || rest.length > 0)
    throw unknown(text, `a cluster (${plan.clusters.map(({ name }) => name).join(', ')})`);
  if (second === undefined) return { cluster, node: undefined };
  const node = cluster.nodes.find(({ name }) => name === second || name === `${cluster.name}-${second}`);
  if (node === undefined)
    throw unknown(text, `a node of ${cluster.name} (${cluster.nodes.map(({ name }) => name).join(', ')})`);
  return { cluster, node };
}

function unknown(text: string, expected: string): Failure {
  return new Failure(`found target "${text}", expected ${expected}`, { exitCode: 2 });
}
