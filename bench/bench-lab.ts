/** The labs that benchmarks make for themselves, with the clusters they compare. */
import { joinClusters } from '../src/lab/join.ts';
import { kubeconfigTarget } from '../src/lab/kubeconfig-file.ts';
import { down, up } from '../src/lab/lab.ts';
import { type Lab, openLab } from '../src/lab/open-lab.ts';
import { labNames } from '../src/lab/state.ts';
import { Timeline } from '../src/lab/timeline.ts';
import { installCiliumMesh } from '../test/interop/cilium-cluster.ts';
import { ciliumRelease } from '../test/interop/cilium-image.ts';
import { kindClusters } from '../test/kind-clusters.ts';
import { clusterNames } from './control-plane/bed.ts';

export interface BenchCluster {
  readonly name: string;
  readonly network: 'isthmus' | 'cilium' | 'none';
  readonly workers: number;
}

/** Two joined clusters of ours, of two nodes and of one; the same of the peer where wanted. */
export function pairOfClusters(peer: boolean): BenchCluster[] {
  const networks = peer ? (['isthmus', 'cilium'] as const) : (['isthmus'] as const);
  return networks.flatMap(network =>
    clusterNames[network].map((name, index) => ({ name, network, workers: index === 0 ? 1 : 0 })),
  );
}

export interface BenchLab extends AsyncDisposable {
  readonly lab: Lab;
  /** Version of the peer; undefined where there is none. */
  readonly cilium: string | undefined;
}

/**
 * Opens the lab of this name, or makes it: all clusters in one lab, so that every packet passes the same router;
 * those of a kind of network joined with each other. Disposing takes a lab down that was made here, unless `keep`.
 */
export async function benchLab(
  name: string,
  clusters: readonly BenchCluster[],
  keep: boolean,
): Promise<BenchLab> {
  const report = (line: string): void => console.error(line);
  const release = clusters.some(each => each.network === 'cilium') ? await ciliumRelease(report) : undefined;
  const cilium = release?.version;
  if (labNames().includes(name)) {
    const lab = openLab(name);
    for (const each of clusters) lab.cluster(each.name);
    return { lab, cilium, [Symbol.asyncDispose]: async () => undefined };
  }
  const remove = async (): Promise<void> => {
    await down({ name, report });
  };
  try {
    const config = kindClusters(
      ...clusters.map(({ name, network, workers }) => ({
        name,
        workers,
        networking: { disableDefaultCNI: network !== 'isthmus' },
      })),
    );
    const images = release === undefined ? [] : [release.archive];
    await up({ name, config, install: true, join: false, images, report });
    const lab = openLab(name);
    const of = (network: BenchCluster['network']) =>
      clusters.filter(each => each.network === network).map(each => lab.cluster(each.name));
    const ours = of('isthmus').map(each => each.plan);
    const kubeconfig = lab.state.kubeconfig ?? kubeconfigTarget(undefined);
    if (ours.length > 1)
      await joinClusters({ ...lab.plan, clusters: ours }, kubeconfig, new Timeline(report, false));
    if (release !== undefined) await installCiliumMesh(of('cilium'), { release, report });
    return { lab, cilium, [Symbol.asyncDispose]: keep ? async () => undefined : remove };
  } catch (error) {
    if (!keep) await remove();
    throw error;
  }
}
