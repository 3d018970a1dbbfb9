import * as z from 'zod';
import { AgentStatus } from '../api/agent-status.ts';
import { isGlobalNamespace, namespaceProblem } from '../api/global-namespace.ts';
import { type MirrorReport, mirrorReportSchema } from '../clustermesh/mirror-report.ts';
import { isRemoteConfig } from '../clustermesh/remote-config.ts';
import type { KubeClient } from '../kube/client.ts';
import { Namespace, Secret } from '../kube/objects.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { isNotFound } from '../kube/status.ts';
import { askAgent, askApiserver } from './ask-pod.ts';
import { agentPods, type IsthmusPod, isthmusPods } from './isthmus-pods.ts';
import type { ClusterChoice } from './kubeconfig.ts';
import {
  type MeshIdentity,
  type MeshService,
  NotYet,
  readMeshIdentity,
  readMeshService,
} from './mesh-access.ts';

/** How many of something, over the nodes. */
export interface Spread {
  readonly min: number;
  readonly avg: number;
  readonly max: number;
}

/** What `isthmus clustermesh status` knows; printed as it is by `-o json`. */
export interface MeshStatus {
  readonly context: string;
  readonly cluster: MeshIdentity;
  /** Undefined while others cannot reach this cluster; `problems` says why. */
  readonly service: MeshService | undefined;
  /** clustermesh-apiserver has written everything this cluster exports. */
  readonly apiserverReady: boolean;
  /** Namespaces of which nothing is exported. */
  readonly localNamespaces: readonly string[];
  /** Namespaces that say what nobody can obey, a sentence each. */
  readonly namespaceProblems: readonly string[];
  /** Names of the clusters this one is configured to connect to. */
  readonly configured: readonly string[];
  /** Where there is a mirror: its replicas, and how many clusters each has copied and hears. */
  readonly mirrors?:
    | { readonly total: number; readonly connected: number; readonly clusters: Spread }
    | undefined;
  readonly nodes: { readonly total: number; readonly connected: number };
  /** Remote clusters per node that are ready. */
  readonly connected: Spread;
  /** Remote cluster → on how many nodes it is configured and ready, and on how many in which state. */
  readonly clusters: Readonly<Record<string, MeshClusterStatus>>;
  readonly errors: readonly NodeProblem[];
  readonly warnings: readonly NodeProblem[];
  readonly problems: readonly string[];
}

export interface MeshClusterStatus {
  readonly configured: number;
  readonly connected: number;
  /** Replicas of the mirror that have copied it and hear it. */
  readonly mirrored?: number | undefined;
  /** ready, stale, dead…: clustermesh/remote-status.ts. */
  readonly states: Readonly<Record<string, number>>;
  /** The last time a node that hears it now could not, in seconds: of all nodes the one that ended last. */
  readonly lastOutage?: Outage | undefined;
}

export interface Outage {
  readonly seconds: number;
  /** Since its end. */
  readonly age: number;
}

export interface NodeProblem {
  readonly node: string;
  readonly pod: string;
  readonly cluster: string;
  readonly message: string;
}

/** Nothing is missing: the export is complete and every node is connected to every cluster configured. */
export function isMeshWell(status: MeshStatus): boolean {
  return (
    status.problems.length === 0 &&
    status.errors.length === 0 &&
    status.apiserverReady &&
    status.nodes.total > 0 &&
    status.nodes.connected === status.nodes.total
  );
}

/** @throws Failure when Isthmus is not installed there */
export async function meshStatus(client: KubeClient, choice: ClusterChoice): Promise<MeshStatus> {
  const { namespace, context } = choice;
  const cluster = await readMeshIdentity(client, choice);
  const problems: string[] = [];
  const [service, pods, agents, configured, namespaces] = await Promise.all([
    cluster.apiserver
      ? readMeshService(client, choice).catch((error: unknown) => {
          if (!(error instanceof NotYet)) throw error;
          problems.push(error.message);
          return undefined;
        })
      : undefined,
    isthmusPods(client, namespace),
    agentPods(client, namespace),
    configuredClusters(client, namespace),
    cluster.apiserver ? namespacesOf(client) : [],
  ]);
  if (!cluster.apiserver) problems.push('clustermesh is not enabled: isthmus clustermesh enable');
  const apiservers = pods.filter(pod => pod.component === 'clustermesh-apiserver');
  problems.push(...apiservers.flatMap(pod => pod.troubles.map(trouble => `${pod.name}: ${trouble}`)));
  const [accounts, mirrors] = await Promise.all([
    Promise.all(agents.map(pod => askNode(pod, choice))),
    Promise.all(cluster.mirror ? apiservers.map(pod => askMirror(pod, choice)) : []),
  ]);

  const names = [
    ...new Set([...configured, ...accounts.flatMap(each => each.clusters.map(({ name }) => name))]),
  ];
  const errors: NodeProblem[] = [];
  const warnings: NodeProblem[] = [];
  const clusters: Record<string, MeshClusterStatus> = {};
  for (const name of names) {
    const tally = { configured: 0, connected: 0, states: {} as Record<string, number> };
    for (const { pod, clusters: known, failure } of accounts) {
      const at = { node: pod.node, pod: pod.name, cluster: name };
      const found = known.find(each => each.name === name);
      if (found) {
        tally.configured++;
        const state = found.state || (found.ready ? 'ready' : 'not ready');
        tally.states[state] = (tally.states[state] ?? 0) + 1;
      }
      if (found?.ready) tally.connected++;
      else
        errors.push({
          ...at,
          message: failure ?? (found ? found.status || 'not ready' : 'not configured yet'),
        });
      for (const message of found?.warnings ?? []) warnings.push({ ...at, message });
    }
    for (const { pod, reports, failure } of mirrors) {
      const report = reports[name];
      if (report?.state === 'ready') continue;
      const message = failure ?? (report ? report.status : 'the mirror says nothing of it');
      errors.push({ node: '', pod: pod.name, cluster: name, message });
    }
    const lastOutage = latestOutage(
      accounts.flatMap(each => each.clusters.filter(found => found.name === name)),
    );
    const mirrored = mirrors.filter(each => each.reports[name]?.state === 'ready').length;
    clusters[name] = {
      ...tally,
      ...(lastOutage ? { lastOutage } : {}),
      ...(cluster.mirror ? { mirrored } : {}),
    };
  }
  const counts = accounts.map(each => each.clusters.filter(({ ready }) => ready).length);
  const copied = mirrors.map(
    ({ reports }) => Object.values(reports).filter(({ state }) => state === 'ready').length,
  );
  return {
    context,
    cluster,
    service,
    apiserverReady: apiservers.some(pod => pod.ready),
    localNamespaces: namespaces
      .filter(({ metadata }) => !isGlobalNamespace(metadata.annotations, cluster.globalByDefault))
      .map(({ metadata }) => metadata.name),
    namespaceProblems: namespaces.flatMap(({ metadata: { name, annotations } }) => {
      const problem = namespaceProblem(annotations);
      return problem === undefined ? [] : [`namespace ${name}: ${problem}`];
    }),
    configured: names,
    nodes: { total: agents.length, connected: counts.filter(count => count === names.length).length },
    connected: spread(counts),
    ...(cluster.mirror
      ? {
          mirrors: {
            total: mirrors.length,
            connected: copied.filter(count => count >= names.length).length,
            clusters: spread(copied),
          },
        }
      : {}),
    clusters,
    errors,
    warnings,
    problems,
  };
}

/** The silence of a cluster that ended last, as nodes tell that hear it now: of one that is silent again it is no news. */
export function latestOutage(
  told: readonly { readonly ready: boolean; readonly lastOutage?: Outage | undefined }[],
): Outage | undefined {
  return told
    .flatMap(({ ready, lastOutage }) => (ready && lastOutage ? [lastOutage] : []))
    .reduce<Outage | undefined>((last, each) => (last && last.age <= each.age ? last : each), undefined);
}

/** By name. */
async function namespacesOf(client: KubeClient): Promise<Namespace[]> {
  const { items } = await client.get(pathOf(resources.namespaces), z.object({ items: z.array(Namespace) }));
  return items.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

function spread(counts: readonly number[]): Spread {
  if (!counts.length) return { min: 0, avg: 0, max: 0 };
  const sum = counts.reduce((total, each) => total + each, 0);
  return { min: Math.min(...counts), avg: sum / counts.length, max: Math.max(...counts) };
}

/** Clusters the Secrets have a configuration of: what agents are to connect to. */
async function configuredClusters(client: KubeClient, namespace: string): Promise<string[]> {
  const found = await Promise.all(
    ['cilium-clustermesh', 'cilium-kvstoremesh'].map(name => configuredIn(client, namespace, name)),
  );
  return found.flat();
}

async function configuredIn(client: KubeClient, namespace: string, name: string): Promise<string[]> {
  try {
    const secret = await client.get(pathOf(resources.secrets, { namespace, name }), Secret);
    return Object.entries(secret.data ?? {}).flatMap(([name, value]) =>
      isRemoteConfig(Buffer.from(value, 'base64').toString('utf8')) ? [name] : [],
    );
  } catch (error) {
    if (isNotFound(error)) return [];
    throw error;
  }
}

interface Account {
  readonly pod: IsthmusPod;
  readonly clusters: readonly {
    readonly name: string;
    readonly ready: boolean;
    readonly state: string;
    readonly status: string;
    readonly lastOutage?: Outage | undefined;
    readonly warnings: readonly string[];
  }[];
  /** Why the agent could not be asked. */
  readonly failure: string | undefined;
}

async function askNode(pod: IsthmusPod, choice: ClusterChoice): Promise<Account> {
  const fail = (failure: string): Account => ({ pod, clusters: [], failure });
  if (!pod.running) return fail(pod.troubles[0] ?? 'its agent does not run');
  try {
    const asked = { cluster: choice, pod, timeout: 15_000 };
    const { clusters = [] } = AgentStatus.parse(
      JSON.parse(await askAgent(asked, 'agent', 'status', '-o', 'json')),
    );
    return { pod, failure: undefined, clusters };
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

interface MirrorAccount {
  readonly pod: IsthmusPod;
  /** By cluster. */
  readonly reports: Readonly<Record<string, MirrorReport>>;
  readonly failure: string | undefined;
}

const Reports = z.record(z.string(), mirrorReportSchema);

async function askMirror(pod: IsthmusPod, choice: ClusterChoice): Promise<MirrorAccount> {
  const fail = (failure: string): MirrorAccount => ({ pod, reports: {}, failure });
  if (!pod.running) return fail(pod.troubles[0] ?? 'its mirror does not run');
  try {
    const asked = { cluster: choice, pod, timeout: 15_000 };
    const reports = Reports.parse(JSON.parse(await askApiserver(asked, 'kvstoremesh-status')));
    return { pod, failure: undefined, reports };
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}
