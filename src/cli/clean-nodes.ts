import { setTimeout as pause } from 'node:timers/promises';
import * as z from 'zod';
import type { KubeClient } from '../kube/client.ts';
import { conditionOf, Node } from '../kube/objects.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { askAgent } from './ask-pod.ts';
import { type AgentTemplate, runCleanPod } from './clean-pod.ts';
import { agentPods, type IsthmusPod } from './isthmus-pods.ts';
import { type ClusterChoice, clientOf } from './kubeconfig.ts';

interface CleanOptions {
  readonly cluster: ClusterChoice;
  readonly report: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A node whose agent could not clean it. */
export interface MissedNode {
  readonly node: string;
  readonly reason: string;
  /** Its kubelet is heard, so that a pod can do what the agent could not. */
  readonly alive: boolean;
}

/**
 * Has every agent take its node back to what it was before: links, pinned programs and maps, CNI configuration
 * and executable. The agent then stays idle until its pod goes. Resolves to the nodes whose agent did not.
 */
export async function cleanNodes({ cluster, report, signal }: CleanOptions): Promise<readonly MissedNode[]> {
  const client = clientOf(cluster);
  try {
    const nodeList = z.object({ items: z.array(Node) });
    const [pods, { items: nodes }] = await Promise.all([
      agentPods(client, cluster.namespace),
      client.get(pathOf(resources.nodes), nodeList),
    ]);
    if (pods.length === 0) return [];
    report(`🧹 Cleaning ${pods.length} nodes`);
    const reasons = new Map(await Promise.all(pods.map(async pod => [pod.node, await clean(pod)] as const)));
    return nodes.flatMap(node => {
      const { name } = node.metadata;
      const reason = reasons.has(name) ? reasons.get(name) : 'no agent runs there';
      const alive = conditionOf(node, 'Ready')?.status !== 'Unknown';
      return reason === undefined ? [] : [{ node: name, reason, alive }];
    });
  } finally {
    client.close();
  }

  async function clean(pod: IsthmusPod): Promise<string | undefined> {
    if (!pod.running) return `its agent (pod ${pod.name}) does not run`;
    try {
      await askAgent({ cluster, pod, timeout: 120_000, signal }, 'agent', 'cleanup');
      return undefined;
    } catch (error) {
      signal?.throwIfAborted();
      return error instanceof Error ? error.message : String(error);
    }
  }
}

/** Names the nodes that were not cleaned, and why. */
export function reportMissed(missed: readonly MissedNode[], report: (line: string) => void): void {
  for (const { node, reason } of missed) report(`⚠️  Node ${node} was not cleaned: ${reason}`);
}

/**
 * Cleans the nodes that agents could not, each by a pod made as `template` says. Call it when the agents are on their
 * way out: one that starts again and again would make anew what is taken away. Names the nodes that are left.
 */
export async function cleanMissedNodes(
  missed: readonly MissedNode[],
  template: AgentTemplate | undefined,
  { cluster, report, signal }: CleanOptions,
): Promise<void> {
  if (template === undefined) return reportMissed(missed, report);
  reportMissed(
    missed.filter(each => !each.alive),
    report,
  );
  const reachable = missed.filter(each => each.alive);
  if (reachable.length === 0) return;
  const { namespace } = cluster;
  const client = clientOf(cluster);
  try {
    await Promise.all(
      reachable.map(async ({ node, reason }) => {
        report(`🧹 Cleaning node ${node} by a pod: ${reason}`);
        await whenAgentGone(client, namespace, node);
        const failure = await runCleanPod(client, template, node, { namespace, signal }).catch(
          (error: unknown) => {
            signal?.throwIfAborted();
            return error instanceof Error ? error.message : String(error);
          },
        );
        if (failure !== undefined) reportMissed([{ node, reason: failure, alive: true }], report);
      }),
    );
  } finally {
    client.close();
  }
}

/** Waits for the end of a node's agent, but not for ever: its pod may hang where its kubelet does. */
async function whenAgentGone(client: KubeClient, namespace: string, node: string): Promise<void> {
  const end = performance.now() + 30_000;
  while ((await agentPods(client, namespace)).some(pod => pod.node === node) && performance.now() < end)
    await pause(300);
}
