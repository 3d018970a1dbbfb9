import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isWell } from '../../src/cli/cluster-status.ts';
import { installIsthmus, upgradeIsthmus } from '../../src/cli/install.ts';
import { waitForStatus } from '../../src/cli/status.ts';
import { Failure } from '../../src/failure.ts';
import { kubeFromConfig } from '../../src/kube/client.ts';
import { waitForReady } from '../../src/lab/bootstrap.ts';
import { chartValues, down, up } from '../../src/lab/lab.ts';
import { loadImage } from '../../src/lab/load-image.ts';
import { type Lab, type LabCluster, openLab } from '../../src/lab/open-lab.ts';
import { readState } from '../../src/lab/state.ts';
import { clusterName, type IPFamily, labConfig, type ShapeName } from './cluster-shape.ts';
import { ensureE2eImages } from './images.ts';

export interface ClusterWish {
  readonly lab: string;
  readonly shape: ShapeName;
  readonly family: IPFamily;
  /** Helm values, KEY=VALUE. */
  readonly values: readonly string[];
  readonly report: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface ReadyCluster {
  readonly lab: Lab;
  readonly cluster: LabCluster;
}

/** A cluster of the wanted shape with Isthmus on it, Ready, with the images that specs ask for on every node. */
export async function bringUp(wish: ClusterWish): Promise<ReadyCluster> {
  const { lab: name, values, report, signal } = wish;
  const wasUp = readState(name)?.phase === 'ready';
  const images = await ensureE2eImages(report);
  const config = labConfig(wish.shape, wish.family);
  await up({ name, config, install: false, join: false, report, signal });
  const lab = openLab(name);
  const cluster = lab.cluster(clusterName);
  if (!wasUp) await install(lab, cluster, wish, images.path);
  else if (values.length > 0)
    await upgradeIsthmus({ cluster: choice(cluster), values: { set: values }, report, signal });
  const client = kubeFromConfig({ component: 'conformance', kubeconfig: cluster.kubeconfig });
  await waitForReady(client, cluster.plan, signal);
  client.close();
  // Nodes stay Ready while agents are replaced.
  const status = await waitForStatus({ cluster: choice(cluster), duration: 300_000, report, signal });
  if (!isWell(status)) throw new Failure('not every component of Isthmus is ready', { exitCode: 2 });
  return { lab, cluster };
}

/** Keeps what the agents said, which goes with the lab. */
export async function saveAgentLogs(cluster: LabCluster, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const selector = ['-n', 'kube-system', '-l', 'app.kubernetes.io/part-of=isthmus'];
  const pods = await cluster.kubectl('get', 'pods', ...selector, '-o', 'name');
  for (const pod of pods.split('\n').filter(each => each !== '')) {
    const log = await cluster.kubectl('-n', 'kube-system', 'logs', '--all-containers', pod);
    await writeFile(join(folder, `${pod.replace('pod/', '')}.log`), log);
  }
}

export async function takeDown(lab: string, report: (line: string) => void): Promise<void> {
  await down({ name: lab, report });
}

async function install(
  lab: Lab,
  cluster: LabCluster,
  { values, report, signal }: ClusterWish,
  images: string,
): Promise<void> {
  report('Images of the specs are loaded');
  await loadImage(lab, images);
  await installIsthmus({
    cluster: choice(cluster),
    values: { document: chartValues(cluster.plan), set: values },
    report,
    signal,
  });
}

function choice({ plan, kubeconfig }: LabCluster) {
  return { context: plan.context, kubeconfig, namespace: 'kube-system' };
}
