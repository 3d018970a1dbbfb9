import type { KubeClient } from '../kube/client.ts';
import { conditionOf, type Node, type Pod } from '../kube/objects.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { isInvalid } from '../kube/status.ts';
import { timestamp } from '../kube/time.ts';
import { derive, input } from '../table/derive.ts';
import type { Target } from '../table/reconciler.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import { eachObject } from './each-object.ts';

/** What is read of a Node to know whether it still waits for its agent. */
export interface NodeStateRow {
  readonly name: string;
  readonly uid: string;
  /** Keys of its taints, in the object's order. */
  readonly taints: readonly string[];
  /** Status of the condition NetworkUnavailable; '' when the node has none. */
  readonly networkUnavailable: string;
}

/** An agent's pod. */
export interface AgentPodRow {
  readonly name: string;
  readonly node: string;
  readonly ready: boolean;
}

/** What must be changed on a node whose agent is ready. */
export interface NodeFixRow {
  readonly node: string;
  /** Place of the agent's taint in spec.taints; -1: it has none. */
  readonly taintAt: number;
  readonly taintKey: string;
  readonly setAvailable: boolean;
}

export function nodeStatesTable(): Table<NodeStateRow> {
  return new Table<NodeStateRow>({
    name: 'node states',
    keyOf: row => row.name,
    equal: (a, b) =>
      a.uid === b.uid && a.networkUnavailable === b.networkUnavailable && a.taints.join() === b.taints.join(),
  });
}

export function nodeStateRow(node: Node): NodeStateRow {
  return {
    name: node.metadata.name,
    uid: node.metadata.uid,
    taints: node.spec.taints?.map(each => each.key) ?? [],
    networkUnavailable: conditionOf(node, 'NetworkUnavailable')?.status ?? '',
  };
}

export function agentPodsTable(): Table<AgentPodRow> {
  return new Table<AgentPodRow>({
    name: 'agent pods',
    keyOf: row => row.name,
    indexes: { node: row => [row.node] },
    equal: (a, b) => a.node === b.node && a.ready === b.ready,
  });
}

export function agentPodRow(pod: Pod): AgentPodRow {
  return {
    name: pod.metadata.name,
    node: pod.spec.nodeName ?? '',
    ready: conditionOf(pod, 'Ready')?.status === 'True' && !pod.metadata.deletionTimestamp,
  };
}

/**
 * The nodes to put right: their agent is ready, and they still have its taint or do not say that the network
 * is available. An agent is ready when its datapath works and the CNI configuration is written. That the
 * operator does this, and not each agent, spares the agents the right to change Node objects.
 */
export function deriveNodeFixes(
  nodes: ReadonlyTable<NodeStateRow>,
  agents: ReadonlyTable<AgentPodRow>,
  taintKey: string,
): ReadonlyTable<NodeFixRow> {
  return derive<NodeFixRow>({
    name: 'node fixes',
    keyOf: row => row.node,
    inputs: [input(nodes, row => [row.name]), input(agents, row => (row.node ? [row.node] : []))],
    compute(name) {
      const node = nodes.get(name);
      if (!node || ![...agents.by('node', name)].some(each => each.ready)) return [];
      const taintAt = node.taints.indexOf(taintKey);
      const setAvailable = node.networkUnavailable !== 'False';
      return taintAt >= 0 || setAvailable ? [{ node: name, taintAt, taintKey, setAvailable }] : [];
    },
  });
}

/** Applies the fixes to Node objects: the condition first, because pods may come once the taint is gone. */
export function nodeFixTarget(client: KubeClient, onFixed: (row: NodeFixRow) => void): Target<NodeFixRow> {
  const fix = async (row: NodeFixRow): Promise<void> => {
    if (row.setAvailable) {
      const now = timestamp();
      const condition = {
        type: 'NetworkUnavailable',
        status: 'False',
        reason: 'IsthmusIsUp',
        message: 'Isthmus is running on this node',
        lastHeartbeatTime: now,
        lastTransitionTime: now,
      };
      const path = pathOf(resources.nodes, { name: row.node, subresource: 'status' });
      await client.patch(path, 'strategic', { status: { conditions: [condition] } });
    }
    if (row.taintAt >= 0) {
      const at = `/spec/taints/${row.taintAt}`;
      const patch = [
        { op: 'test', path: `${at}/key`, value: row.taintKey },
        { op: 'remove', path: at },
      ];
      await client
        .patch(pathOf(resources.nodes, { name: row.node }), 'json', patch)
        .catch((error: unknown) => {
          // The taints are not what we saw: the watch is about to say what they are, and that makes a new row.
          if (!isInvalid(error)) throw error;
        });
    }
    onFixed(row);
  };
  return eachObject(fix);
}
