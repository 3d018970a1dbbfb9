import * as z from 'zod';
import { execInPod } from '../kube/exec.ts';
import { agentPods, type IsthmusPod } from './isthmus-pods.ts';
import { accessOf, type ClusterChoice, clientOf } from './kubeconfig.ts';

interface CleanOptions {
  readonly cluster: ClusterChoice;
  readonly report: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Has every agent take its node back to what it was before: links, pinned programs and maps, CNI configuration
 * and executable. The agent then stays idle until its pod goes. A node whose agent does not answer is named.
 */
export async function cleanNodes({ cluster, report, signal }: CleanOptions): Promise<void> {
  const client = clientOf(cluster);
  const access = accessOf(cluster);
  try {
    const [pods, nodes] = await Promise.all([agentPods(client, cluster.namespace), nodeNames()]);
    if (pods.length === 0) return;
    report(`🧹 Cleaning ${pods.length} nodes`);
    const reasons = await Promise.all(pods.map(pod => clean(pod)));
    reasons.forEach((reason, i) => {
      if (reason !== undefined) report(`⚠️  Node ${pods[i]!.node} was not cleaned: ${reason}`);
    });
    const missed = nodes.filter(node => !pods.some(pod => pod.node === node));
    for (const node of missed) report(`⚠️  Node ${node} was not cleaned: no agent runs there`);
  } finally {
    client.close();
  }

  async function clean(pod: IsthmusPod): Promise<string | undefined> {
    if (!pod.running) return `its agent (pod ${pod.name}) does not run`;
    const command = ['isthmus', 'agent', 'cleanup'];
    try {
      const ended = await execInPod(access, {
        namespace: pod.namespace,
        pod: pod.name,
        container: 'agent',
        command,
        signal,
      });
      return ended.exitCode === 0
        ? undefined
        : (ended.stderr || ended.stdout).trim() || `exit code ${ended.exitCode}`;
    } catch (error) {
      signal?.throwIfAborted();
      return error instanceof Error ? error.message : String(error);
    }
  }

  async function nodeNames(): Promise<readonly string[]> {
    const list = z.object({ items: z.array(z.object({ metadata: z.object({ name: z.string() }) })) });
    return (await client.get('/api/v1/nodes', list)).items.map(each => each.metadata.name);
  }
}
