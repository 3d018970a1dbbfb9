import * as z from 'zod';
import { AgentStatus } from '../api/agent-status.ts';
import { Failure } from '../failure.ts';
import type { KubeClient } from '../kube/client.ts';
import { ConfigMap, conditionOf } from '../kube/objects.ts';
import { isNotFound } from '../kube/status.ts';
import { askAgent } from './ask-pod.ts';
import { type ComponentName, type IsthmusPod, isthmusPods } from './isthmus-pods.ts';
import type { ClusterChoice } from './kubeconfig.ts';
import { isComplete, type Rollout, rolloutOf, Workload } from './rollout.ts';
import { unreachableText } from './unreachable-text.ts';

/** What `isthmus status` knows about one cluster; printed as it is by `-o json`. */
export interface ClusterStatus {
  readonly context: string;
  readonly cluster: { readonly name: string; readonly id: number };
  /** Version of the installed chart. */
  readonly chart: string;
  readonly components: readonly ComponentStatus[];
  readonly nodes: { readonly total: number; readonly ready: number };
  /** Pods that agents connect, over all nodes whose agent answered. */
  readonly endpoints: { readonly total: number; readonly ready: number } | undefined;
  /** How agents attach programs to devices → number of nodes. */
  readonly attachModes: Readonly<Record<string, number>>;
  /** How nodes serve clients outside, each mode that agents have. */
  readonly loadBalancerModes: readonly string[];
  /** How nodes send to pods of other nodes: each mode that agents work in, and paths between nodes over all of them. */
  readonly routing:
    | { readonly modes: readonly string[]; readonly direct: number; readonly tunnel: number }
    | undefined;
  /** Image → number of pods that run it. */
  readonly images: Readonly<Record<string, number>>;
  readonly errors: readonly Problem[];
  readonly warnings: readonly Problem[];
}

export interface ComponentStatus extends Rollout {
  readonly name: ComponentName;
  readonly kind: 'DaemonSet' | 'Deployment';
  readonly object: string;
  readonly enabled: boolean;
}

export interface Problem {
  readonly component: ComponentName | 'node';
  /** Pod or node. */
  readonly object: string;
  readonly message: string;
}

/** Everything is there, ready and new, and nothing is wrong. Warnings do not count. */
export function isWell(status: ClusterStatus): boolean {
  return (
    status.errors.length === 0 &&
    status.nodes.ready === status.nodes.total &&
    status.components.every(each => !each.enabled || isComplete(each))
  );
}

/**
 * Reads the state of a cluster from Kubernetes, and from each running agent its own account of itself.
 * Throws Failure when Isthmus is not installed there.
 */
export async function clusterStatus(client: KubeClient, choice: ClusterChoice): Promise<ClusterStatus> {
  const { namespace, context } = choice;
  const [config, components, pods, nodes] = await Promise.all([
    readConfig(client, choice),
    readComponents(client, namespace),
    isthmusPods(client, namespace),
    client.get('/api/v1/nodes', NodeList),
  ]);
  const present = new Set(nodes.items.map(node => node.metadata.name));
  // Through whose kubelet nothing is asked any more.
  const orphans = pods.filter(pod => pod.node !== '' && !present.has(pod.node));
  const agents = pods.filter(
    pod => pod.component === 'isthmus-agent' && pod.running && !orphans.includes(pod),
  );
  const accounts = await Promise.all(agents.map(pod => agentAccount(pod, choice)));
  const found = accounts.flatMap(each => each.status ?? []);
  const waiting = nodes.items.filter(node => conditionOf(node, 'Ready')?.status !== 'True');
  return {
    context,
    cluster: { name: config['cluster-name'] ?? 'default', id: Number(config['cluster-id'] ?? 0) },
    chart: components.chart,
    components: components.rows,
    nodes: { total: nodes.items.length, ready: nodes.items.length - waiting.length },
    endpoints: found.some(each => each.endpoints)
      ? {
          total: sum(found.map(each => each.endpoints?.total)),
          ready: sum(found.map(each => each.endpoints?.ready)),
        }
      : undefined,
    attachModes: count(found.flatMap(each => each.datapath?.attachMode ?? [])),
    loadBalancerModes: [...new Set(found.flatMap(each => each.datapath?.loadBalancerMode ?? []))].sort(),
    images: count(pods.flatMap(pod => [...new Set(pod.images)])),
    routing: found.some(each => each.routing)
      ? {
          modes: [...new Set(found.flatMap(each => each.routing?.mode ?? []))].sort(),
          direct: sum(found.map(each => each.routing?.direct)),
          tunnel: sum(found.map(each => each.routing?.tunnel)),
        }
      : undefined,
    errors: [
      ...components.rows.filter(each => each.enabled && each.observed && each.desired === 0).map(noPods),
      ...pods.flatMap(podProblems),
      ...accounts.flatMap(each => each.errors),
    ],
    warnings: [
      ...accounts.flatMap(each => each.warnings),
      ...pods.filter(pod => pod.restarts > 0 && pod.troubles.length === 0).map(restarted),
      ...orphans.map(orphaned),
      ...waiting.map(node => nodeProblem(node.metadata.name, conditionOf(node, 'Ready')?.message)),
      ...unreachable(found),
    ],
  };
}

const NodeList = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string() }),
      status: z.object({
        conditions: z
          .array(
            z.object({
              type: z.string(),
              status: z.enum(['True', 'False', 'Unknown']),
              reason: z.string().nullish(),
              message: z.string().nullish(),
              lastTransitionTime: z.string().nullish(),
            }),
          )
          .nullish(),
      }),
    }),
  ),
});

async function readConfig(
  client: KubeClient,
  { namespace, context }: ClusterChoice,
): Promise<Readonly<Record<string, string>>> {
  try {
    return (
      (await client.get(`/api/v1/namespaces/${namespace}/configmaps/isthmus-config`, ConfigMap)).data ?? {}
    );
  } catch (error) {
    if (!isNotFound(error)) throw error;
    throw new Failure(`Isthmus is not installed in namespace ${namespace} of context ${context}`, {
      hint: 'install it with `isthmus install`, or name its namespace with --namespace',
      cause: error,
    });
  }
}

async function readComponents(client: KubeClient, namespace: string) {
  const read = async (name: ComponentName, kind: 'DaemonSet' | 'Deployment', object: string) => {
    try {
      const path = `/apis/apps/v1/namespaces/${namespace}/${kind.toLowerCase()}s/${object}`;
      const workload = await client.get(path, Workload);
      return {
        row: { name, kind, object, enabled: true, ...rolloutOf(kind, workload) },
        chart: workload.metadata.labels?.['helm.sh/chart'],
      };
    } catch (error) {
      if (!isNotFound(error)) throw error;
      const none = { desired: 0, ready: 0, available: 0, unavailable: 0, updated: 0, outdated: 0 };
      // Without the agent there is no Isthmus; the others can be off.
      return {
        row: { name, kind, object, enabled: name === 'isthmus-agent', observed: true, ...none },
        chart: undefined,
      };
    }
  };
  const found = await Promise.all([
    read('isthmus-agent', 'DaemonSet', 'isthmus'),
    read('isthmus-operator', 'Deployment', 'isthmus-operator'),
    read('clustermesh-apiserver', 'Deployment', 'clustermesh-apiserver'),
  ]);
  return { rows: found.map(each => each.row), chart: found[0].chart?.replace(/^isthmus-/, '') ?? 'unknown' };
}

interface Account {
  readonly status?: AgentStatus;
  readonly errors: readonly Problem[];
  readonly warnings: readonly Problem[];
}

/** What one agent says about itself. An agent that is not ready may not answer yet: that is seen elsewhere. */
async function agentAccount(pod: IsthmusPod, choice: ClusterChoice): Promise<Account> {
  const problem = (message: string): Problem => ({ component: 'isthmus-agent', object: pod.node, message });
  const unanswered = (message: string): Account =>
    pod.ready
      ? { errors: [problem(`its status cannot be read: ${message}`)], warnings: [] }
      : { errors: [], warnings: [] };
  try {
    const asked = { cluster: choice, pod, timeout: 15_000 };
    const status = AgentStatus.parse(JSON.parse(await askAgent(asked, 'agent', 'status', '-o', 'json')));
    return { status, errors: status.errors.map(problem), warnings: status.warnings.map(problem) };
  } catch (error) {
    return unanswered(error instanceof Error ? error.message : String(error));
  }
}

function podProblems(pod: IsthmusPod): readonly Problem[] {
  return pod.troubles.map(message => ({ component: pod.component, object: pod.node || pod.name, message }));
}

function restarted(pod: IsthmusPod): Problem {
  const times = pod.restarts === 1 ? 'once' : `${pod.restarts} times`;
  const message = `was started again ${times}${pod.lastEnd ? `, last after ${pod.lastEnd}` : ''}`;
  return { component: pod.component, object: pod.node || pod.name, message };
}

function noPods({ name, object, kind }: ComponentStatus): Problem {
  return {
    component: name,
    object,
    message: `the ${kind} wants no pods: no node fits it, or it is not there`,
  };
}

function orphaned({ component, node, name }: IsthmusPod): Problem {
  return {
    component,
    object: node,
    message: `its Node was deleted: Kubernetes will take the pod ${name} away`,
  };
}

function nodeProblem(name: string, reason: string | null | undefined): Problem {
  return { component: 'node', object: name, message: `is not Ready: ${reason ?? 'no reason given'}` };
}

type UnreachableNode = NonNullable<AgentStatus['unreachableNodes']>[number];

/** Each node once: the agent that has known it longest speaks for all. */
function unreachable(found: readonly AgentStatus[]): Problem[] {
  const nodes = new Map<string, UnreachableNode>();
  for (const each of found.flatMap(({ unreachableNodes = [] }) => unreachableNodes))
    if (each.age >= (nodes.get(each.node)?.age ?? 0)) nodes.set(each.node, each);
  return [...nodes.values()].map(each => ({
    component: 'node',
    object: each.node,
    message: unreachableText(each),
  }));
}

function count(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

function sum(numbers: readonly (number | undefined)[]): number {
  return numbers.reduce<number>((total, each) => total + (each ?? 0), 0);
}
