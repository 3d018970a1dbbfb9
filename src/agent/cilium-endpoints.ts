import { type EndpointObjectRow, LEAVING } from '../api/crds/cilium-endpoint.ts';
import type { IdentityRow } from '../api/crds/cilium-identity.ts';
import { parseLabels } from '../api/labels.ts';
import type { NamedPort, PodRow } from '../identity/pod.ts';
import type { KubeClient } from '../kube/client.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { derive, input } from '../table/derive.ts';
import type { Operation, Target } from '../table/reconciler.ts';
import type { ReadonlyTable } from '../table/table.ts';
import type { Endpoint } from './endpoint.ts';

/** What this node says of one of its pods in a CiliumEndpoint. */
export interface PublishedEndpoint {
  readonly namespace: string;
  readonly name: string;
  readonly podUid: string;
  readonly id: number;
  readonly containerId: string;
  readonly identity: number;
  /** Identity-relevant labels, `k8s:app=cart`. */
  readonly labels: readonly string[];
  readonly ipv4?: string | undefined;
  readonly ipv6?: string | undefined;
  readonly nodeIp: string;
  readonly serviceAccount: string;
  readonly ports: readonly NamedPort[];
  /** The pod has been told to end: said before Kubernetes says it, which whoever balances waits for. */
  readonly leaving: boolean;
}

export interface PublishInputs {
  /** This node's endpoints, with the index `pod`. */
  readonly endpoints: ReadonlyTable<Endpoint>;
  /** This node's pods, keyed `namespace/name`. */
  readonly pods: ReadonlyTable<PodRow>;
  /** Keyed by number. */
  readonly identities: ReadonlyTable<IdentityRow>;
  /** Address of this node. */
  readonly nodeIp: string;
}

/** One row per pod of this node that has an endpoint and an identity. */
export function derivePublishedEndpoints(inputs: PublishInputs): ReadonlyTable<PublishedEndpoint> {
  const { endpoints, pods, identities, nodeIp } = inputs;
  const keyOf = (row: { namespace: string; name: string }): string => `${row.namespace}/${row.name}`;
  return derive<PublishedEndpoint>({
    name: 'published-endpoints',
    keyOf,
    equal: (a, b) => JSON.stringify(a) === JSON.stringify(b),
    inputs: [
      input(endpoints, row => (row.podName === '' ? [] : [`${row.namespace}/${row.podName}`])),
      input(pods, row => [keyOf(row)]),
      input(identities, row =>
        [...endpoints.values()].flatMap(each =>
          each.identity === row.identity && each.podName !== '' ? [`${each.namespace}/${each.podName}`] : [],
        ),
      ),
    ],
    compute(key) {
      const pod = pods.get(key);
      const endpoint = newest(endpoints.by('pod', key), pod?.uid);
      if (!pod || !endpoint || endpoint.identity === undefined) return [];
      const identity = identities.get(String(endpoint.identity));
      return [
        {
          namespace: pod.namespace,
          name: pod.name,
          podUid: pod.uid,
          id: endpoint.id,
          containerId: endpoint.containerId,
          identity: endpoint.identity,
          labels: Object.entries(identity ? parseLabels(identity.text) : {}).map(
            ([label, value]) => `${label}=${value}`,
          ),
          ipv4: endpoint.ipv4,
          ipv6: endpoint.ipv6,
          nodeIp,
          serviceAccount: pod.serviceAccount,
          ports: pod.ports,
          leaving: pod.leaving,
        },
      ];
    },
  });
}

/** A pod whose sandbox was made anew has two attachments for a moment. */
function newest(rows: Iterable<Endpoint>, podUid: string | undefined): Endpoint | undefined {
  let found: Endpoint | undefined;
  for (const row of rows) {
    const ours = row.podUid === '' || podUid === undefined || row.podUid === podUid;
    if (row.state === 'ready' && ours && (!found || row.createdAt > found.createdAt)) found = row;
  }
  return found;
}

export function ciliumEndpointObject(row: PublishedEndpoint): object {
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumEndpoint',
    metadata: {
      name: row.name,
      namespace: row.namespace,
      // With the pod the object goes, also when this node is gone.
      ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: row.name, uid: row.podUid }],
    },
    status: {
      id: row.id,
      state: row.leaving ? LEAVING : 'ready',
      identity: { id: row.identity, labels: row.labels },
      networking: { addressing: [{ ipv4: row.ipv4, ipv6: row.ipv6 }], node: row.nodeIp },
      'external-identifiers': {
        'container-id': row.containerId,
        'k8s-namespace': row.namespace,
        'k8s-pod-name': row.name,
        'pod-name': `${row.namespace}/${row.name}`,
      },
      'named-ports': row.ports,
      'service-account': row.serviceAccount,
    },
  };
}

export interface PublishTargetOptions {
  readonly client: KubeClient;
  /** CiliumEndpoints of the whole cluster, keyed `namespace/name`. */
  readonly present: ReadonlyTable<EndpointObjectRow>;
  readonly nodeIp: string;
}

/** Writes CiliumEndpoints, and removes those that say a pod is here which is not. */
export function publishTarget({ client, present, nodeIp }: PublishTargetOptions): Target<PublishedEndpoint> {
  const one = async ({ key, row }: Operation<PublishedEndpoint>): Promise<void> => {
    const [namespace = '', name = ''] = key.split('/');
    const path = pathOf(resources.ciliumEndpoints, { namespace, name });
    if (row) {
      await client.apply(path, ciliumEndpointObject(row));
      return;
    }
    // A pod of the same name may live on another node by now: its object is not ours.
    const found = present.get(key);
    if (found && found.nodeIp !== nodeIp) return;
    await client.delete(path, found ? { preconditions: { uid: found.uid } } : {});
  };
  return {
    async existing() {
      await present.whenSynced();
      return [...present.values()]
        .filter(each => each.nodeIp === nodeIp)
        .map(each => `${each.namespace}/${each.name}`);
    },
    async apply(batch) {
      const failed = new Map<string, Error>();
      await Promise.all(
        batch.map(operation =>
          one(operation).catch((error: unknown) => {
            failed.set(operation.key, error instanceof Error ? error : new Error(String(error)));
          }),
        ),
      );
      return failed;
    },
  };
}
