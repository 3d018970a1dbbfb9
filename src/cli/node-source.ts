import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { type Command, Option } from 'commander';
import * as z from 'zod';
import { AGENT_SOCKET } from '../agent/api-server.ts';
import { Failure } from '../failure.ts';
import type { KubeClient } from '../kube/client.ts';
import { askAgent, complaint } from './ask-pod.ts';
import { agentPods, type IsthmusPod } from './isthmus-pods.ts';
import { type ClusterChoice, chooseCluster, clientOf, type GlobalOptions } from './kubeconfig.ts';

/** A node whose agent can be asked. */
export interface NodeSource {
  readonly node: string;
  /** Runs `isthmus …` in the agent's pod; resolves to what it printed. Throws Failure that names the node. */
  run(...args: string[]): Promise<string>;
}

/** Milliseconds that a node has: a map of a million rows takes some. */
const PATIENCE = 120_000;

/** `--node`. */
export const nodeOption = (what: string): Option => new Option('--node <name>', what);

/** Every node whose agent runs, by name; those left out are told to standard error. With `node` that one alone. */
export async function allNodes(command: Command, node?: string): Promise<readonly NodeSource[]> {
  const own = ownNode(command, node);
  if (own) return [own];
  return withPods(command, async (pods, client, cluster) => {
    if (node !== undefined) return [await chosen(node, pods, client, cluster)];
    const running = pods.filter(each => each.running);
    for (const each of pods)
      if (!each.running) process.stderr.write(`⚠️  node ${each.node} is left out: ${whyNot(each)}\n`);
    if (running.length === 0)
      throw new Failure(`no agent is running in namespace ${cluster.namespace}`, {
        hint: 'isthmus status says why',
      });
    return running.map(each => sourceOf(each, cluster));
  });
}

/**
 * Asks nodes at once. One that does not answer is told to standard error and left out; where none does, the first says
 * why.
 */
export async function askEach<T>(
  sources: readonly NodeSource[],
  ask: (source: NodeSource) => Promise<T>,
  tell: (line: string) => void = line => void process.stderr.write(`${line}\n`),
): Promise<T[]> {
  const answers = await Promise.allSettled(sources.map(ask));
  const failed = answers.filter(each => each.status === 'rejected');
  if (failed[0] && failed.length === answers.length) throw failed[0].reason;
  for (const { reason } of failed) tell(`⚠️  left out: ${reason instanceof Error ? reason.message : reason}`);
  return answers.flatMap(each => (each.status === 'fulfilled' ? [each.value] : []));
}

/** One node: the one named, else the first whose agent is ready, for what is the same on all of them. */
export async function oneNode(command: Command, node?: string): Promise<NodeSource> {
  const own = ownNode(command, node);
  if (own) return own;
  return withPods(command, async (pods, client, cluster) => {
    if (node !== undefined) return chosen(node, pods, client, cluster);
    const first = pods.find(each => each.ready) ?? pods.find(each => each.running);
    if (!first)
      throw new Failure(`no agent is running in namespace ${cluster.namespace}`, {
        hint: 'isthmus status says why',
      });
    return sourceOf(first, cluster);
  });
}

async function withPods<T>(
  command: Command,
  use: (pods: readonly IsthmusPod[], client: KubeClient, cluster: ClusterChoice) => Promise<T>,
): Promise<T> {
  const cluster = chooseCluster(command);
  const client = clientOf(cluster);
  try {
    const pods = [...(await agentPods(client, cluster.namespace))].sort((a, b) =>
      a.node < b.node ? -1 : a.node > b.node ? 1 : 0,
    );
    if (pods.length === 0)
      throw new Failure(`namespace ${cluster.namespace} of context ${cluster.context} has no agents`, {
        hint: 'install Isthmus with `isthmus install`, or name its namespace with --namespace',
      });
    return await use(pods, client, cluster);
  } finally {
    client.close();
  }
}

const NodeNames = z.object({ items: z.array(z.object({ metadata: z.object({ name: z.string() }) })) });

async function chosen(
  node: string,
  pods: readonly IsthmusPod[],
  client: KubeClient,
  cluster: ClusterChoice,
): Promise<NodeSource> {
  const pod = pods.find(each => each.node === node);
  if (pod?.running) return sourceOf(pod, cluster);
  if (pod)
    throw new Failure(`the agent of node ${node} does not run: ${whyNot(pod)}`, {
      hint: `kubectl -n ${pod.namespace} describe pod ${pod.name}`,
    });
  const { items } = await client.get('/api/v1/nodes', NodeNames);
  const names = items.map(each => each.metadata.name);
  if (names.includes(node))
    throw new Failure(`node ${node} has no agent`, {
      hint: 'is it kept away by a taint or nodeSelector? kubectl -n kube-system get daemonset isthmus -o wide',
    });
  throw new Failure(`there is no node ${node}`, { hint: `there are: ${names.sort().join(', ')}` });
}

const whyNot = (pod: IsthmusPod): string => pod.troubles[0] ?? `its pod ${pod.name} is not running`;

function sourceOf(pod: IsthmusPod, cluster: ClusterChoice): NodeSource {
  return {
    node: pod.node,
    async run(...args) {
      try {
        return await askAgent({ cluster, pod, timeout: PATIENCE }, ...args);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        throw new Failure(`node ${pod.node}: ${error.message}`, {
          hint: `--node asks another; this agent's log: kubectl -n ${pod.namespace} logs ${pod.name}`,
        });
      }
    },
  };
}

/** Inside an agent's pod, and no other cluster or node is named: the node it is on, without the API server. */
function ownNode(command: Command, node: string | undefined): NodeSource | undefined {
  const { context, kubeconfig } = command.optsWithGlobals<GlobalOptions>();
  const name = process.env.K8S_NODE_NAME;
  if (context !== undefined || kubeconfig !== undefined || name === undefined || !existsSync(AGENT_SOCKET))
    return undefined;
  if (node !== undefined && node !== name) return undefined;
  const [entry = ''] = process.argv.slice(1);
  return {
    node: name,
    async run(...args) {
      const { stdout } = await promisify(execFile)(process.execPath, [entry, ...args], {
        maxBuffer: 1 << 30,
      }).catch((error: unknown) => {
        const said = z.object({ stderr: z.string() }).safeParse(error).data?.stderr.trim();
        throw new Failure(complaint(said || String(error), 1));
      });
      return stdout;
    },
  };
}
