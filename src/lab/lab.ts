import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../cli/failure.ts';
import { type KubeClient, kubeFromConfig } from '../kube/client.ts';
import { gatherExecutables } from './bin-folder.ts';
import { type BinaryName, ensureBinaries } from './binaries.ts';
import { bootstrapCluster, registerNodes, waitForApi } from './bootstrap.ts';
import { type CgroupLayout, cgroupLayout, killCgroup, removeCgroup } from './cgroup.ts';
import { apiServer, type ClusterSecrets, createClusterSecrets, renderKubeconfig } from './cluster-pki.ts';
import type { LabConfig } from './config.ts';
import { goldenStore } from './golden.ts';
import { prepareHost, restoreHost } from './host-settings.ts';
import { imageArchives } from './image-archives.ts';
import { addContexts, kubeconfigTarget, removeContexts } from './kubeconfig-file.ts';
import { createRouter, removeNetworks, takenPrefixes } from './network.ts';
import { bootNodes, nodesOf } from './node.ts';
import { createNodeDisk } from './node-disk.ts';
import { diskDirectory, stateDirectory } from './paths.ts';
import { type ClusterPlan, checkLabName, hostDevice, type LabPlan, labCgroupRoot, planLab } from './plan.ts';
import { labNames, lockLab, readState, removeState, writeState } from './state.ts';
import { type Report, Timeline } from './timeline.ts';

export interface UpOptions {
  readonly name: string;
  readonly config: LabConfig;
  /** False leaves every cluster without a network, whatever its file says. */
  readonly install: boolean;
  /** Joins the clusters into one network once Isthmus is installed. */
  readonly join: boolean;
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
    throw new Failure(`lab ${name} is up already`, {
      hint: `isthmus lab status shows it, isthmus lab down${forLab(name)} removes it`,
    });
  }
  if (before !== undefined || existsSync(diskDirectory(name))) {
    timeline.step(`Removing what an unfinished lab ${name} left`);
    await remove(name, layout);
  }
  for (const note of config.notes) timeline.step(`Note: ${note}`);

  const [binaries, archives, taken] = await Promise.all([
    timeline.timed('executables found', ensureBinaries(executables, { report, ...(signal && { signal }) })),
    timeline.timed('image archives found', imageArchives(report, signal)),
    takenPrefixes(),
  ]);
  signal?.throwIfAborted();
  const plan = planLab(name, config, taken, () => randomBytes(16).toString('hex'));
  const kubeconfig = kubeconfigTarget(options.kubeconfig);
  writeState({ version: 1, phase: 'up', plan, kubeconfig, faults: [] });
  prepareHost();
  timeline.step(`Starting ${plan.clusters.map(c => `${c.name} (${c.nodes.length} nodes)`).join(', ')}`);

  const binFolder = join(diskDirectory(name), 'bin');
  const { loopback, ...programs } = binaries;
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

  await Promise.all(
    plan.clusters.map(async (cluster, i) => {
      const client = clusterClient(plan, cluster);
      const { admin } = secrets[i]!;
      await timeline.timed(`${cluster.name}: API server ready`, waitForApi(client, cluster, signal));
      await timeline.timed(
        `${cluster.name}: DNS and rights applied`,
        bootstrapCluster(client, cluster, admin, signal),
      );
      await timeline.timed(`${cluster.name}: nodes registered`, registerNodes(client, cluster, signal));
      client.close();
    }),
  );
  await addContexts(
    kubeconfig,
    plan.clusters.map((cluster, i) => ({
      name: cluster.context,
      server: apiServer(cluster),
      ...secrets[i]!.admin,
    })),
  );
  writeState({ version: 1, phase: 'ready', plan, kubeconfig, faults: [] });
  timeline.step(`Ready after ${timeline.seconds.toFixed(1)} s`);
}

/** Removes a lab, whole or half-made, and everything it put on this machine. True when there was one. */
export async function down(options: { readonly name: string; readonly report: Report }): Promise<boolean> {
  requireRoot();
  checkLabName(options.name);
  using _lock = lockLab(options.name);
  return await remove(options.name, cgroupLayout());
}

/** A kubeconfig of one cluster alone, for programs. */
export function clusterKubeconfig(lab: string, cluster: string): string {
  return join(stateDirectory(lab), `${cluster}.kubeconfig`);
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
  removeState(name);
  if (labNames().length === 0) await removeCgroup(layout, labCgroupRoot);
  restoreHost();
  return found;
}

function requireRoot(): void {
  if (process.getuid?.() !== 0) {
    throw new Failure('isthmus lab needs root: it makes namespaces, mounts and network devices', {
      hint: 'run it with sudo',
    });
  }
}

function forLab(name: string): string {
  return name === 'isthmus' ? '' : ` --name ${name}`;
}
