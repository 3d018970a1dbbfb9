import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { type KubeClient, kubeFromConfig } from '../kube/client.ts';
import { parseIPv4Prefix } from './address.ts';
import { gatherExecutables } from './bin-folder.ts';
import { type BinaryName, ensureBinaries } from './binaries.ts';
import { bootstrapCluster, registerNodes, waitForApi, waitForReady } from './bootstrap.ts';
import { type CgroupLayout, cgroupLayout, killCgroup, removeCgroup } from './cgroup.ts';
import { apiServer, type ClusterSecrets, createClusterSecrets, renderKubeconfig } from './cluster-pki.ts';
import type { ClusterConfig, LabConfig } from './config.ts';
import { applyNetwork } from './fault.ts';
import { goldenStore, removeUnfinishedStores } from './golden.ts';
import { prepareHost, restoreHost } from './host-settings.ts';
import { imageArchives } from './image-archives.ts';
import { joinClusters } from './join.ts';
import { addContexts, kubeconfigTarget, removeContexts } from './kubeconfig-file.ts';
import { createRouter, removeNetworks, takenPrefixes } from './network.ts';
import { bootNodes, nodesOf } from './node.ts';
import { createNodeDisk } from './node-disk.ts';
import { clusterKubeconfig, executableFolder } from './open-lab.ts';
import { diskDirectory, stateDirectory } from './paths.ts';
import { type ClusterPlan, checkLabName, hostDevice, type LabPlan, labCgroupRoot, planLab } from './plan.ts';
import { startPortProxy } from './port-proxy.ts';
import { CommandFailed } from './process.ts';
import { startRegistry } from './registry-process.ts';
import { requireRoot } from './root.ts';
import {
  blocksOfOtherLabs,
  labNames,
  lockLab,
  lockPlanning,
  readState,
  removeState,
  writeState,
} from './state.ts';
import { type Report, Timeline } from './timeline.ts';

export interface UpOptions {
  readonly name: string;
  readonly config: LabConfig;
  /** False leaves every cluster without a network, whatever its file says. */
  readonly install: boolean;
  /** Joins the clusters into one network once Isthmus is installed. */
  readonly join: boolean;
  /** Archives of images that every node has besides the usual. */
  readonly images?: readonly string[];
  /** File for the contexts; default as kubectl's. */
  readonly kubeconfig?: string | undefined;
  readonly report: Report;
  readonly verbose?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** What nodes run besides containerd and runc, which are this machine's. */
const executables = [
  'etcd',
  'etcdctl',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kubectl',
  'loopback',
] as const satisfies readonly BinaryName[];

/**
 * Brings a lab up: returns when the API servers are ready and all nodes are registered; with `install`, when
 * the nodes are Ready as well. A lab of this name that a crash left behind is removed first.
 */
export async function up(options: UpOptions): Promise<void> {
  const { name, config, report, signal } = options;
  const timeline = new Timeline(report, options.verbose ?? false);
  requireRoot();
  checkLabName(name);
  using _lock = lockLab(name);
  const layout = cgroupLayout();
  const before = existsSync(stateDirectory(name)) ? readState(name) : undefined;
  if (before?.phase === 'ready') {
    checkSame(before.plan, config);
    timeline.step(`Lab ${name} is up already`);
    await connect(before.plan, before.kubeconfig ?? kubeconfigTarget(options.kubeconfig), options, timeline);
    return;
  }
  if (before !== undefined || existsSync(diskDirectory(name))) {
    timeline.step(`Removing what an unfinished lab ${name} left`);
    await remove(name, layout);
  }
  for (const note of config.notes) timeline.step(`Note: ${note}`);

  const [binaries, archives] = await Promise.all([
    timeline.timed('executables found', ensureBinaries(executables, { report, ...(signal && { signal }) })),
    timeline.timed('image archives found', imageArchives(report, signal)),
  ]);
  signal?.throwIfAborted();
  const kubeconfig = kubeconfigTarget(options.kubeconfig);
  const plan = await claimPlan(name, config, kubeconfig);
  try {
    const all = [...archives, ...(options.images ?? [])];
    await make({ ...options, layout, plan, kubeconfig, timeline, binaries, archives: all });
  } catch (error) {
    throw unfinished(name, error);
  }
  await connect(plan, kubeconfig, options, timeline);
  timeline.step(`Lab ${name} is up after ${timeline.seconds.toFixed(1)} s`);
}

interface Making extends UpOptions {
  readonly layout: CgroupLayout;
  readonly plan: LabPlan;
  readonly kubeconfig: string;
  readonly timeline: Timeline;
  readonly binaries: Readonly<Record<(typeof executables)[number], string>>;
  readonly archives: readonly string[];
}

/** Makes what the plan says. */
async function make(options: Making): Promise<void> {
  const { name, layout, plan, kubeconfig, timeline, signal, archives } = options;
  timeline.step(`Starting ${plan.clusters.map(c => `${c.name} (${c.nodes.length} nodes)`).join(', ')}`);

  const binFolder = executableFolder(name);
  const { loopback, ...programs } = options.binaries;
  gatherExecutables(binFolder, Object.values(programs));
  const [secrets, store] = await Promise.all([
    timeline.timed('certificates', Promise.all(plan.clusters.map(createClusterSecrets))),
    timeline.timed('images unpacked', goldenStore(layout, `${plan.cgroup}/images`, archives)),
    timeline.timed('router', createRouter(plan)),
  ]);
  if (store.made) timeline.step('Images are unpacked, once for this set of them');
  await timeline.timed('disks', createDisks(plan, secrets, loopback, store.path));
  signal?.throwIfAborted();
  await timeline.timed('nodes booted', bootNodes(layout, plan, nodesOf(plan), binFolder));
  await Promise.all([startPortProxy(layout, plan), startRegistry(layout, plan, archives)]);
  if (plan.links.length > 0) await applyNetwork({ plan, layout }, undefined, []);

  await addContexts(
    kubeconfig,
    plan.clusters.map((cluster, i) => ({
      name: cluster.context,
      server: apiServer(cluster),
      ...secrets[i]!.admin,
    })),
  );
  await Promise.all(
    plan.clusters.map(async (cluster, i) => {
      const client = clusterClient(plan, cluster);
      const { admin } = secrets[i]!;
      const step = <T>(text: string, work: Promise<T>): Promise<T> =>
        timeline.timed(`${cluster.name}: ${text}`, work);
      await step('API server ready', waitForApi(client, cluster, signal));
      await step('DNS and rights applied', bootstrapCluster(client, cluster, admin, signal));
      await step('nodes registered', registerNodes(client, cluster, signal));
      if (options.install && cluster.install) {
        await step('Isthmus installed', install(plan, cluster, timeline, signal));
        await step('nodes and DNS ready', waitForReady(client, cluster, signal));
      }
      client.close();
    }),
  );
  writeState({ version: 1, phase: 'ready', plan, kubeconfig, faults: [] });
}

/** A lab that could not be made stays for a look: its logs say more than the error. */
function unfinished(name: string, error: unknown): unknown {
  if (!(error instanceof Failure || error instanceof CommandFailed)) return error;
  const own = error instanceof Failure && error.hint !== undefined ? `${error.hint}; ` : '';
  return new Failure(error.message, {
    hint: `${own}isthmus lab down${forLab(name)} removes what is there, and so does another lab up`,
    cause: error,
  });
}

/** Chooses the lab's addresses and names, and writes them down before another lab can choose or the last one go. */
async function claimPlan(name: string, config: LabConfig, kubeconfig: string): Promise<LabPlan> {
  using _lock = await lockPlanning();
  const others = blocksOfOtherLabs(name).flatMap(block => parseIPv4Prefix(block) ?? []);
  const plan = planLab(name, config, {
    prefixes: [...(await takenPrefixes()), ...others],
    contexts: contextsOfOtherLabs(name, kubeconfig),
    machineID: () => randomBytes(16).toString('hex'),
  });
  writeState({ version: 1, phase: 'up', plan, kubeconfig, faults: [] });
  prepareHost();
  return plan;
}

/** Removes a lab, whole or half-made, and everything it put on this machine. True when there was one. */
export async function down(options: { readonly name: string; readonly report: Report }): Promise<boolean> {
  requireRoot();
  checkLabName(options.name);
  using _lock = lockLab(options.name);
  return await remove(options.name, cgroupLayout());
}

/** The Helm values that the chart needs to know a lab's cluster by. */
export function chartValues({ name, number, ipFamily }: ClusterPlan): Readonly<Record<string, unknown>> {
  return {
    cluster: { name, id: number },
    ...(ipFamily === 'ipv4' ? {} : { ipv4: { enabled: ipFamily === 'dual' }, ipv6: { enabled: true } }),
  };
}

/** Installs Isthmus by its chart, as `isthmus install` does on any cluster. */
async function install(
  plan: LabPlan,
  cluster: ClusterPlan,
  timeline: Timeline,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { installIsthmus } = await import('../cli/install.ts');
  await installIsthmus({
    cluster: {
      context: cluster.context,
      kubeconfig: clusterKubeconfig(plan.name, cluster.name),
      namespace: 'kube-system',
    },
    values: { document: chartValues(cluster) },
    report: line => timeline.detail(`${cluster.name}: ${line}`),
    signal,
  });
}

/** Joins the lab's clusters when that is wanted, each with all others. Harmless when they are joined. */
async function connect(
  plan: LabPlan,
  kubeconfig: string,
  options: UpOptions,
  timeline: Timeline,
): Promise<void> {
  if (!options.join) return;
  if (!options.install || plan.clusters.some(cluster => !cluster.install))
    throw new Failure('--join needs Isthmus installed on every cluster, found one without a network');
  await timeline.timed('clusters joined', joinClusters(plan, kubeconfig, timeline, options.signal));
}

/** A lab that is up is not changed by another file. */
function checkSame(plan: LabPlan, config: LabConfig): void {
  const shape = (
    clusters: readonly (Pick<ClusterConfig, 'name' | 'podSubnet' | 'serviceSubnet'> & {
      readonly nodes: readonly unknown[];
    })[],
  ) =>
    clusters
      .map(
        each =>
          `${each.name} (${each.nodes.length} nodes, pods ${each.podSubnet}, services ${each.serviceSubnet})`,
      )
      .join(', ');
  const wanted = shape(config.clusters);
  const there = shape(plan.clusters);
  if (wanted === there) return;
  throw new Failure(`lab ${plan.name} is up with ${there}, found a configuration with ${wanted}`, {
    hint: `isthmus lab down${forLab(plan.name)} removes it; --name makes another beside it`,
  });
}

/** Contexts in the same kubeconfig that belong to labs which are up. */
function contextsOfOtherLabs(name: string, kubeconfig: string): Set<string> {
  const contexts = new Set<string>();
  for (const other of labNames()) {
    if (other === name) continue;
    const state = readState(other);
    if (state?.kubeconfig === kubeconfig)
      for (const { context } of state.plan.clusters) contexts.add(context);
  }
  return contexts;
}

function clusterClient(plan: LabPlan, cluster: ClusterPlan): KubeClient {
  return kubeFromConfig({ component: 'isthmus-lab', kubeconfig: clusterKubeconfig(plan.name, cluster.name) });
}

async function createDisks(
  plan: LabPlan,
  secrets: readonly ClusterSecrets[],
  loopback: string,
  store: string,
): Promise<void> {
  await Promise.all(
    plan.clusters.flatMap((cluster, i) => {
      const { admin, files } = secrets[i]!;
      mkdirSync(stateDirectory(plan.name), { recursive: true, mode: 0o700 });
      writeFileSync(
        clusterKubeconfig(plan.name, cluster.name),
        renderKubeconfig(cluster.context, apiServer(cluster), admin),
        { mode: 0o600 },
      );
      return cluster.nodes.map(node =>
        createNodeDisk(plan, cluster, node, files.get(node.name) ?? [], loopback, store),
      );
    }),
  );
}

async function remove(name: string, layout: CgroupLayout): Promise<boolean> {
  const found = existsSync(stateDirectory(name)) || existsSync(diskDirectory(name));
  let state: ReturnType<typeof readState>;
  try {
    state = readState(name);
  } catch (error) {
    // A state of another version still has names to find everything by; only contexts are not known.
    if (!(error instanceof Failure)) throw error;
  }
  if (state !== undefined) writeState({ ...state, phase: 'down' });
  const cgroup = `${labCgroupRoot}/${name}`;
  await killCgroup(layout, cgroup);
  await removeNetworks(name, hostDevice(name));
  await removeCgroup(layout, cgroup);
  if (state?.kubeconfig !== undefined) {
    await removeContexts(
      state.kubeconfig,
      state.plan.clusters.map(({ context }) => context),
    );
  }
  rmSync(diskDirectory(name), { recursive: true, force: true });
  removeUnfinishedStores();
  removeState(name);
  // What labs share goes with the last, and another may be about to come up.
  using _lock = await lockPlanning();
  if (labNames().length === 0) await removeCgroup(layout, labCgroupRoot);
  restoreHost();
  return found;
}

function forLab(name: string): string {
  return name === 'isthmus' ? '' : ` --name ${name}`;
}
