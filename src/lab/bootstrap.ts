import * as z from 'zod';
import { Failure } from '../failure.ts';
import type { KubeClient } from '../kube/client.ts';
import { type AdminCredentials, apiServer, renderKubeconfig } from './cluster-pki.ts';
import { corednsObjects } from './coredns.ts';
import type { ClusterPlan } from './plan.ts';
import { patience, waitFor } from './process.ts';

/** A Kubernetes object and the collection that it belongs to. */
export interface Manifest {
  /** Such as `/api/v1/namespaces/kube-system/services`. */
  readonly collection: string;
  readonly object: Readonly<Record<string, unknown>> & {
    readonly metadata: { readonly name: string; readonly [field: string]: unknown };
  };
}

/** Waits until a cluster's API server is ready, and says what it lacked if it never was. */
export async function waitForApi(
  client: KubeClient,
  cluster: ClusterPlan,
  signal?: AbortSignal,
): Promise<void> {
  let last: unknown;
  await waitFor(
    async () => {
      try {
        const message = await client.stream('/readyz', { signal, timeout: 2000 * patience() });
        message.destroy();
        return true;
      } catch (error) {
        signal?.throwIfAborted();
        last = error;
        return undefined;
      }
    },
    {
      timeout: 90_000,
      interval: 60,
      signal,
      late: seconds =>
        new Failure(
          `the API server of cluster ${cluster.name} is not ready after ${seconds} s: ${message(last)}`,
          {
            hint: `its log is in ${cluster.nodes[0]!.disk}/root/var/log/kube-apiserver.log`,
          },
        ),
    },
  );
}

/** Gives a new cluster what kubeadm gives: rights of the API server, kube-public/cluster-info, cluster DNS. */
export async function bootstrapCluster(
  client: KubeClient,
  cluster: ClusterPlan,
  admin: AdminCredentials,
  signal?: AbortSignal,
): Promise<void> {
  const manifests = [...clusterInfo(cluster, admin), kubeletRights, ...corednsObjects(cluster)];
  // Namespaces and default roles appear a moment after the API server is ready.
  await Promise.all(
    manifests.map(({ collection, object }) =>
      retried(() => client.apply(`${collection}/${object.metadata.name}`, object, { signal }), signal),
    ),
  );
}

const nodeList = z.object({ items: z.array(z.object({ metadata: z.object({ name: z.string() }) })) });

/** Waits until every kubelet has registered its node, then sets the labels that a kubelet may not set itself. */
export async function registerNodes(
  client: KubeClient,
  cluster: ClusterPlan,
  signal?: AbortSignal,
): Promise<void> {
  const wanted = cluster.nodes.map(({ name }) => name);
  let missing = wanted;
  await waitFor(
    async () => {
      const { items } = await client.get('/api/v1/nodes', nodeList, { signal });
      const there = new Set(items.map(({ metadata }) => metadata.name));
      missing = wanted.filter(name => !there.has(name));
      return missing.length === 0 ? true : undefined;
    },
    {
      timeout: 90_000,
      interval: 100,
      signal,
      late: seconds =>
        new Failure(`cluster ${cluster.name}: not registered after ${seconds} s: ${missing.join(', ')}`, {
          hint: `see ${cluster.nodes[0]!.disk.replace(/[^/]*$/, missing[0] ?? '')}/root/var/log/kubelet.log`,
        }),
    },
  );
  await Promise.all(
    cluster.nodes.map(node => {
      const labels = {
        ...(node.role === 'control-plane'
          ? {
              'node-role.kubernetes.io/control-plane': '',
              'node.kubernetes.io/exclude-from-external-load-balancers': '',
            }
          : {}),
        ...node.labels,
      };
      if (Object.keys(labels).length === 0) return undefined;
      return client.patch(`/api/v1/nodes/${node.name}`, 'merge', { metadata: { labels } }, { signal });
    }),
  );
}

const conditions = z.object({
  metadata: z.object({ name: z.string() }),
  status: z.object({
    conditions: z
      .array(z.object({ type: z.string(), status: z.string(), message: z.string().optional() }))
      .optional(),
  }),
});
const conditionList = z.object({ items: z.array(conditions) });

/** Waits until every node is Ready and cluster DNS answers. */
export async function waitForReady(
  client: KubeClient,
  cluster: ClusterPlan,
  signal?: AbortSignal,
): Promise<void> {
  let waitingFor = 'nodes';
  await waitFor(
    async () => {
      const [nodes, dns] = await Promise.all([
        client.get('/api/v1/nodes', conditionList, { signal }),
        client.get('/apis/apps/v1/namespaces/kube-system/deployments/coredns', conditions, { signal }),
      ]);
      const condition = (of: z.infer<typeof conditions>, type: string) =>
        of.status.conditions?.find(each => each.type === type);
      const missing = nodes.items
        .filter(node => condition(node, 'Ready')?.status !== 'True')
        .map(node => `${node.metadata.name} (${condition(node, 'Ready')?.message ?? 'no state yet'})`);
      if (condition(dns, 'Available')?.status !== 'True') missing.push('coredns (not available)');
      waitingFor = missing.join('; ');
      return missing.length === 0 ? true : undefined;
    },
    {
      timeout: 180_000,
      interval: 150,
      signal,
      late: seconds =>
        new Failure(`cluster ${cluster.name}: not ready after ${seconds} s: ${waitingFor}`, {
          hint: `isthmus status --context ${cluster.context} shows what Isthmus is waiting for`,
        }),
    },
  );
}

/** kube-public/cluster-info, which anybody may read: how to reach this cluster's API server. */
function clusterInfo(cluster: ClusterPlan, admin: AdminCredentials): Manifest[] {
  const full: unknown = JSON.parse(renderKubeconfig('', apiServer(cluster), admin));
  const clusters = z.object({ clusters: z.unknown() }).parse(full).clusters;
  const kubeconfig = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters,
    contexts: null,
    users: null,
    'current-context': '',
  };
  const name = 'kubeadm:bootstrap-signer-clusterinfo';
  return [
    {
      collection: '/api/v1/namespaces/kube-public/configmaps',
      object: {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'cluster-info' },
        data: { kubeconfig: JSON.stringify(kubeconfig, undefined, 2) },
      },
    },
    {
      collection: '/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public/roles',
      object: {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'Role',
        metadata: { name },
        rules: [
          { apiGroups: [''], resources: ['configmaps'], resourceNames: ['cluster-info'], verbs: ['get'] },
        ],
      },
    },
    {
      collection: '/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public/rolebindings',
      object: {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'system:anonymous' }],
      },
    },
  ];
}

/** The API server's own certificate may ask kubelets for logs, exec and the rest. */
const kubeletRights: Manifest = {
  collection: '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
  object: {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name: 'kube-apiserver-kubelet-client' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'system:kubelet-api-admin' },
    subjects: [
      { apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'kube-apiserver-kubelet-client' },
    ],
  },
};

async function retried<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const end = performance.now() + 20_000;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      signal?.throwIfAborted();
      if (performance.now() > end) throw error;
      await new Promise(resolve => setTimeout(resolve, 150));
    }
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
