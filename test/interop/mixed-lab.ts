/** A lab of two clusters that are one mesh: us with Isthmus, eu with a real Cilium. Both are only declared. */
import { installIsthmus } from '../../src/cli/install.ts';
import { up } from '../../src/lab/lab.ts';
import { openLab } from '../../src/lab/open-lab.ts';
import { kindClusters } from '../kind-clusters.ts';
import { installCilium } from './cilium-cluster.ts';
import { ciliumRelease } from './cilium-image.ts';
import { declaredValues, memberOf, meshAuthority } from './declared-mesh.ts';

export interface MixedLabOptions {
  readonly name: string;
  /** 255 or 511. With 511 the clusters have numbers that only 511 allows. */
  readonly maxClusters: 255 | 511;
  readonly family: 'ipv4' | 'dual';
  readonly report: (line: string) => void;
  readonly signal: AbortSignal;
}

export async function makeMixedLab(options: MixedLabOptions): Promise<void> {
  const { name, maxClusters, family, report, signal } = options;
  const release = await ciliumRelease(report);
  const networking = { disableDefaultCNI: true, ipFamily: family };
  const config = kindClusters(...['us', 'eu'].map(name => ({ name, workers: 1, networking })));
  await up({ name, config, install: false, join: false, images: [release.archive], report, signal });
  const lab = openLab(name);
  const [us, eu] = [lab.cluster('us'), lab.cluster('eu')];
  const large = maxClusters === 511;
  const mesh = {
    authority: await meshAuthority(),
    maxClusters,
    mcsApi: true,
    // Isthmus reads Cilium as `remote`, Cilium reads Isthmus as `remote-eu`.
    members: [
      memberOf(us, { authMode: 'migration', ...(large && { id: 300 }) }),
      memberOf(eu, { authMode: 'cluster', ...(large && { id: 511 }) }),
    ],
  } as const;
  // Both charts call it so.
  const families = family === 'dual' ? { ipv6: { enabled: true } } : {};
  const isthmus = {
    ...declaredValues(mesh, mesh.members[0]),
    k8sServiceHost: us.plan.apiAddress,
    k8sServicePort: 6443,
    operator: { replicas: 1 },
    ...families,
  };
  await Promise.all([
    installIsthmus({
      cluster: { context: us.context, kubeconfig: us.kubeconfig, namespace: 'kube-system' },
      values: { document: isthmus },
      report: line => report(`us: ${line}`),
    }),
    installCilium(eu, { release, report, mesh, values: families }),
  ]);
}
