/** Cilium installed by its own chart on clusters of a lab that came up without a network (disableDefaultCNI). */

import { helm } from '../../src/cli/helm.ts';
import type { Report } from '../../src/lab/binaries.ts';
import type { LabCluster } from '../../src/lab/open-lab.ts';
import { waitFor } from '../../src/lab/process.ts';
import type { CiliumRelease } from './cilium-image.ts';
import { type DeclaredMesh, declaredValues, memberOf, meshAuthority } from './declared-mesh.ts';

export interface CiliumOptions {
  readonly release: CiliumRelease;
  readonly report: Report;
  /** The mesh it is a member of, by its name; without one it has no mesh etcd. */
  readonly mesh?: DeclaredMesh;
  /** More values for the chart, over those below. */
  readonly values?: Readonly<Record<string, unknown>>;
}

/**
 * Installs Cilium in a cluster and waits until nodes and DNS are ready. What it is set to is what Isthmus does:
 * VXLAN, services in place of kube-proxy, BPF masquerade. What Isthmus has not yet (Hubble, Envoy, health checks
 * between nodes) is off, so that it costs nothing.
 */
export async function installCilium(cluster: LabCluster, options: CiliumOptions): Promise<void> {
  const { release, report } = options;
  report(`${cluster.name}: installing Cilium ${release.version}`);
  await helm(['install', 'cilium', release.chart], {
    cluster: { context: cluster.context, kubeconfig: cluster.kubeconfig, namespace: 'kube-system' },
    values: { document: { ...chartValues(cluster, options), ...options.values } },
    report,
  });
  const rollout = (what: string): Promise<string> =>
    cluster.kubectl('-n', 'kube-system', 'rollout', 'status', what, '--timeout=400s');
  await rollout('daemonset/cilium');
  report(`${cluster.name}: agents of Cilium are ready`);
  await Promise.all(cluster.plan.nodes.map(({ name }) => showConfiguration(cluster, name)));
  await cluster.kubectl('wait', '--for=condition=Ready', 'node', '--all', '--timeout=60s');
  await rollout('deployment/coredns');
  if (options.mesh !== undefined) await rollout('deployment/clustermesh-apiserver');
}

/** Installs Cilium in all these clusters and joins each with the others. */
export async function installCiliumMesh(
  clusters: readonly LabCluster[],
  options: Pick<CiliumOptions, 'release' | 'report' | 'values'>,
): Promise<void> {
  const mesh = { authority: await meshAuthority(), members: clusters.map(each => memberOf(each)) };
  await Promise.all(clusters.map(cluster => installCilium(cluster, { ...options, mesh })));
  for (const cluster of clusters) await remotesReady(cluster, clusters.length - 1);
}

function chartValues(cluster: LabCluster, options: CiliumOptions): Record<string, unknown> {
  const { release, mesh } = options;
  const image = { override: release.image };
  const member = mesh?.members.find(({ name }) => name === cluster.name);
  const declared = mesh && member && declaredValues(mesh, member);
  return {
    cluster: { name: cluster.name, id: cluster.plan.number },
    k8sServiceHost: cluster.plan.apiAddress,
    k8sServicePort: 6443,
    image,
    operator: { image, replicas: 1 },
    kubeProxyReplacement: 'true',
    ipam: { mode: 'kubernetes' },
    routingMode: 'tunnel',
    tunnelProtocol: 'vxlan',
    bpf: { masquerade: true },
    hubble: { enabled: false },
    l7Proxy: false,
    envoy: { enabled: false },
    healthChecking: false,
    endpointHealthChecking: { enabled: false },
    // The capabilities it asks for otherwise include one that root of a test machine may lack (SYS_RESOURCE).
    securityContext: { privileged: true },
    ...(declared && {
      ...declared,
      clustermesh: {
        ...declared.clustermesh,
        apiserver: { ...declared.clustermesh.apiserver, image },
      },
    }),
  };
}

/** containerd 1.6 can miss that a CNI configuration was renamed into place; any other change has it look again. */
async function showConfiguration(cluster: LabCluster, node: string): Promise<void> {
  const folder = '/etc/cni/net.d';
  const script = `[ -f ${folder}/05-cilium.conflist ] && touch ${folder}/look && rm ${folder}/look && echo yes || true`;
  await waitFor(async () => (await cluster.exec(node, 'sh', '-c', script)).includes('yes') || undefined, {
    timeout: 60_000,
    interval: 200,
    late: () => new Error(`${node}: Cilium's agent is ready and has written no CNI configuration`),
  });
}

/** Waits until every agent has read every remote cluster. */
async function remotesReady(cluster: LabCluster, count: number): Promise<void> {
  const pods = await cluster.kubectl(
    '-n',
    'kube-system',
    'get',
    'pods',
    '-l',
    'k8s-app=cilium',
    '-o',
    'name',
  );
  for (const pod of pods.trim().split('\n')) {
    const status = ['-n', 'kube-system', 'exec', pod, '-c', 'cilium-agent', '--', 'cilium-dbg', 'status'];
    let said = '';
    await waitFor(
      async () => {
        said = await cluster.kubectl(...status);
        return (
          new RegExp(`ClusterMesh:\\s+${count}/${count} (remote )?clusters ready`).test(said) || undefined
        );
      },
      {
        timeout: 240_000,
        interval: 1000,
        late: () => new Error(`${cluster.name} ${pod}: remote clusters are not ready\n${said}`),
      },
    );
  }
}
